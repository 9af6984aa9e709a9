"""Layers watched while a model runs."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras


@contextlib.contextmanager
def watched_calls(
    layers: Iterable[keras.layers.Layer], watch: Callable[[keras.layers.Layer, tuple, dict, Any], None]
) -> Iterator[None]:
    """Call `watch(layer, args, kwargs, outputs)` after each call of each layer, inside a `with` statement.

    It replaces the layers' method `call` for that time, so functions that were compiled before do not notice.
    """
    before: list[tuple[keras.layers.Layer, Any]] = []

    def replace(layer: keras.layers.Layer) -> None:
        original = layer.call

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = original(*args, **kwargs)
            watch(layer, args, kwargs, outputs)
            return outputs

        before.append((layer, vars(layer).get("call")))
        layer.call = call

    try:
        for layer in layers:
            replace(layer)
        yield
    finally:
        for layer, own in before:
            if own is None:
                del layer.call
            else:
                layer.call = own
