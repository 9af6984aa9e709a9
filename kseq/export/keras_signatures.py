"""Suppression of the signature that Keras adds to every exported model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


@contextmanager
def without_default_signature(model: Any) -> Iterator[None]:
    """Keep Keras from tracing a signature of its own for `model` within this context.

    Keras derives it from the shapes that the first call of the model had, and takes all inputs for floats: models that
    read token ids refuse them, and the export would fail.
    """
    layers = model._flatten_layers() if isinstance(model, keras.Layer) else []
    models = [each for each in layers if isinstance(each, keras.Model)]
    shapes = [each._build_shapes_dict for each in models]
    for each in models:
        each._build_shapes_dict = {}
    try:
        yield
    finally:
        for each, before in zip(models, shapes, strict=True):
            each._build_shapes_dict = before
