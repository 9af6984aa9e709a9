"""Registration of the custom ops that served models may use.

A process can load a SavedModel only if the model's ops are registered. TensorFlow's own ops always are. The ops of
tensorflow-text (`normalize_utf8`, `case_fold_utf8`, the tokenizers ...) are registered when it is imported;
`tensorflow_model_server` has them built in.
"""

from __future__ import annotations

import importlib
import logging

_LIBRARIES = ("tensorflow_text",)

_log = logging.getLogger(__name__)


def register() -> None:
    """Import every op library that is installed; a broken one is logged and skipped."""
    for library in _LIBRARIES:
        try:
            importlib.import_module(library)
        except ModuleNotFoundError:
            _log.info("%s is not installed: models that use its ops cannot be loaded", library)
        except Exception as error:  # an import may raise anything, and models without these ops must still be served
            _log.warning(
                "%s is installed but cannot be imported, so models that use its ops cannot be loaded. Install the "
                "release that was built for this TensorFlow (tensorflow-text 2.21.0 is broken, 2.21.1 is not). %s",
                library,
                error,
            )
