"""Switch that disables XLA in the process, as tensorflow_model_server does unless a flag enables it.

Requests to a compiled signature (`jit_compile=True`) then fail at once with TensorFlow's own message and the name of
the flag, instead of waiting seconds for the compilation.
"""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import tensorflow as tf

_LIBRARY = "libtensorflow_cc.so.2"
_SYMBOL = "_ZN10tensorflow21DisableXlaCompilationEv"  # void tensorflow::DisableXlaCompilation()

_REFUSED = "XLA compilation disabled"  # TensorFlow's text
_WAY_OUT = (
    "The signature is compiled by XLA, as serving_xla of kseq.export_saved_model is, and this server was started "
    "without --xla_cpu_compilation_enabled. Start it with that flag, or ask a signature that is not compiled."
)

_log = logging.getLogger(__name__)


def explained(message: str) -> str:
    """Return TensorFlow's error text, followed by the way out if it refuses a signature that XLA compiles."""
    return f"{message}\n{_WAY_OUT}" if _REFUSED in message else message


def disable_compilation() -> None:
    """Disable compilation in this process for good."""
    library = Path(tf.sysconfig.get_lib()) / _LIBRARY
    try:
        getattr(ctypes.CDLL(str(library)), _SYMBOL)()
    except (OSError, AttributeError) as error:
        _log.warning("XLA stays enabled: this TensorFlow build has no switch for it (%s)", error)
