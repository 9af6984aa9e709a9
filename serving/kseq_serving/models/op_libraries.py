"""Registers the custom ops that served models may use.

A SavedModel names its ops; the process that loads it must have registered them. TensorFlow's own ops always are.
Those of tensorflow-text (``normalize_utf8``, ``case_fold_utf8``, the tokenizers ...) are registered by importing it,
which ``register`` does when it is installed, so that a model with text ops in its graph loads here as it does in
``tensorflow_model_server``, which has them built in.
"""

from __future__ import annotations

import importlib
import logging

_LIBRARIES = ("tensorflow_text",)

_log = logging.getLogger(__name__)


def register() -> None:
    """Imports every op library that is installed; one that is installed but broken is reported, not fatal."""
    for library in _LIBRARIES:
        try:
            importlib.import_module(library)
        except ModuleNotFoundError:
            _log.info("%s is not installed: models that use its ops cannot be loaded", library)
        except Exception as error:  # An import runs foreign code, and models without these ops must still be served.
            _log.warning(
                "%s is installed but cannot be imported, so models that use its ops cannot be loaded. Install the "
                "release that was built for this TensorFlow (tensorflow-text 2.21.0 is broken, 2.21.1 is not). %s",
                library,
                error,
            )
