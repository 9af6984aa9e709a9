"""The operation of JAX that first gives NaN or infinity."""

import re
import traceback
from collections.abc import Callable
from typing import Any

import jax


def first_operation(function: Callable[[], Any], kind: str) -> tuple[str, list[traceback.FrameSummary]] | None:
    """Run a function, operation by operation, and return the first operation whose output has NaN or infinity.

    Args:
        function: A function without arguments.
        kind: "NaN" or "infinity".

    Returns:
        The name of the operation and the calls that led to it, the innermost last; None if there is none.
    """
    watch = jax.debug_nans if kind == "NaN" else jax.debug_infs
    try:
        with jax.disable_jit(), watch(True):
            function()
    except FloatingPointError as error:
        name = re.search(r"encountered in (?:jit\()?([\w-]+)", str(error))
        return "?" if name is None else name[1], list(traceback.extract_tb(error.__traceback__))
    return None
