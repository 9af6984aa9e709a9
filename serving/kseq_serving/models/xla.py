"""Switches XLA off for the process, as tensorflow_model_server does unless a flag asks for it.

A model whose signature is compiled (``jit_compile=True``) then fails at its first request with TensorFlow's own
message, and never stalls a request for the seconds that a compilation takes.
"""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import tensorflow as tf

_LIBRARY = "libtensorflow_cc.so.2"
_SYMBOL = "_ZN10tensorflow21DisableXlaCompilationEv"  # void tensorflow::DisableXlaCompilation()

_log = logging.getLogger(__name__)


def disable_compilation() -> None:
    """Makes every later compilation in this process fail; it cannot be undone."""
    library = Path(tf.sysconfig.get_lib()) / _LIBRARY
    try:
        getattr(ctypes.CDLL(str(library)), _SYMBOL)()
    except (OSError, AttributeError) as error:
        _log.warning("XLA stays enabled: this TensorFlow build has no switch for it (%s)", error)
