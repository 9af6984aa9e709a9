"""The operation of TensorFlow that first gives NaN or infinity."""

import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_callbacks  # no public API


def first_operation(function: Callable[[], Any], kind: str) -> tuple[str, list[traceback.FrameSummary]] | None:
    """Run a function, operation by operation, and return the first operation whose output has NaN or infinity.

    Args:
        function: A function without arguments.
        kind: "NaN" or "infinity".

    Returns:
        The name of the operation and the calls that led to it, the innermost last; None if there is none.
    """
    found: list[tuple[str, list[traceback.FrameSummary]]] = []
    is_bad = np.isnan if kind == "NaN" else np.isinf

    def watch(op_type: str, inputs: Any, attrs: Any, outputs: Any, op_name: Any = None, graph: Any = None) -> None:
        if found or graph is not None:
            return
        for output in outputs:
            if output.dtype.is_floating and is_bad(output.numpy().astype("float32")).any():
                found.append((op_type, list(traceback.extract_stack()[:-1])))
                return

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    op_callbacks.add_op_callback(watch)
    try:
        function()
    finally:
        op_callbacks.remove_op_callback(watch)
        tf.config.run_functions_eagerly(before)
    return found[0] if found else None
