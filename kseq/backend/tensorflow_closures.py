"""What functions use besides their arguments, on TensorFlow."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

Nest = Any


def captured(function: Callable, arguments: tuple, variables: list[keras.Variable]) -> tuple[list, list]:
    """Return what a function uses from around it besides the given variables: float tensors, and other things.

    The function is traced by itself, from the shapes and types of its arguments; nothing is computed.

    Args:
        function: `(*arguments) -> nest of tensors`.
        arguments: Nests of tensors.
        variables: What it may use.
    """
    shapes = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), arguments)
    used = tf.function(function, autograph=False).get_concrete_function(*shapes).captured_inputs
    handles = {id(handle) for variable in variables for handle in _handles(variable)}
    floats = [each for each in used if each.dtype.is_floating]
    return floats, [each for each in used if not each.dtype.is_floating and id(each) not in handles]


def _handles(variable: keras.Variable) -> list[tf.Tensor]:
    """Return the handle of a variable; of each of its copies where it has several, none where it is to be made yet."""
    value = variable._value
    return [] if value is None else [copy.handle for copy in getattr(value, "values", (value,))]
