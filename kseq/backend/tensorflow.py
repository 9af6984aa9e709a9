"""Gradients, random numbers and choices on TensorFlow.

AutoGraph leaves these functions alone: what they are given is written in operations, not in Python's control flow.
"""

import itertools
import os
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Nest = Any
FEWEST_SPLIT_ROWS = 4  # below, the second chain costs more than it saves
MOST_SMALL = 2**19  # multiplications of a step, around which a loop should do no more than it must
WIDE = 2  # features for each unit, of which the product of all steps at once saves more than such a loop
MANTISSA = 2**23 - 1  # the bits of a float32 that a uniform number is made of


def row_groups(batch_size: int | None, training: bool) -> int:
    """Return in how many groups of rows the step of a recurrence is best written.

    Two on a processor of several cores, where operations that do not wait for each other run at the same time. One on a
    GPU, step by step in Python, and for a few rows. A batch of unknown size is taken to be large in training and small
    otherwise.
    """
    if tf.executing_eagerly() or (os.cpu_count() or 1) == 1 or tf.config.list_physical_devices("GPU"):
        return 1
    large = training if batch_size is None else batch_size >= FEWEST_SPLIT_ROWS
    return 2 if large else 1


@tf.autograph.experimental.do_not_convert
def split_rows(values: tf.Tensor, count: int, axis: int) -> list[tf.Tensor]:
    """Return `values` in `count` parts of about the same size along `axis`. The gradient is a concatenation."""
    size = values.shape[axis]
    size = tf.shape(values)[axis] if size is None else size
    bounds = [size * part // count for part in range(count + 1)]
    return tf.split(values, [last - first for first, last in itertools.pairwise(bounds)], axis)


@tf.autograph.experimental.do_not_convert
def captured(function: Callable, arguments: tuple) -> list[tf.Tensor]:
    """Return the float tensors that a function uses and that are not among its arguments.

    The function is traced by itself, from the shapes and types of its arguments; nothing is computed.

    Args:
        function: `(*arguments) -> nest of tensors`.
        arguments: Nests of tensors.
    """
    shapes = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), arguments)
    used = tf.function(function, autograph=False).get_concrete_function(*shapes).captured_inputs
    return [each for each in used if each.dtype.is_floating]


def differentiates_loops() -> bool:
    """Return whether the backend's own gradient of a loop takes no more than a time in proportion to its steps.

    XLA's goes through all of each input again at every step.
    """
    return False


def projects_ahead(multiplications: int, features_per_unit: float) -> bool:
    """Return whether, where no gradient follows, inputs of all steps are best projected before the loop.

    Args:
        multiplications: Of a step's recurrent product. Around small ones what counts is how little else there is to do:
            at a batch of 8, and 64 features and units, a loop that projects in its steps took 0.7 times as long.
        features_per_unit: Of an input for each of the output. With 512 features and 64 units that loop took 1.8 times
            as long.
    """
    small = multiplications <= MOST_SMALL and features_per_unit <= WIDE
    return not small or tf.executing_eagerly() or bool(tf.config.list_physical_devices("GPU"))


@tf.autograph.experimental.do_not_convert
def vector_jacobian_product(function: Callable, *primals: Nest) -> tuple[Nest, Callable[[Nest], tuple]]:
    """Return `function(*primals)` and the pullback from an output's cotangent to one cotangent per primal."""
    with tf.GradientTape() as tape:
        tape.watch(primals)
        outputs = function(*primals)

    def pullback(cotangent: Nest) -> tuple:
        # With the outputs flattened, NamedTuples and plain tuples are the same.
        gradients = tape.gradient(
            tf.nest.flatten(outputs),
            primals,
            output_gradients=tf.nest.flatten(cotangent),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return tuple(gradients)

    return outputs, pullback


@tf.autograph.experimental.do_not_convert
def custom_gradient(
    primal: Callable[..., Nest],
    forward: Callable[..., tuple[Nest, Nest]],
    backward: Callable[[Nest, Nest], Nest],
    arguments: tuple,
    *,
    keep_residuals: bool,
) -> Nest:
    """Evaluate `primal(*arguments)` with a backward pass of its own.

    Args:
        primal: The function, storing nothing.
        forward: The same, returning `(outputs, residuals)`.
        backward: `(residuals, output cotangents) -> cotangents`, one for each tensor of `arguments`, same structure;
            None stands for no gradient (masks).
        arguments: Every tensor that the functions use, weights too.
        keep_residuals: Whether a gradient is likely to follow. TensorFlow cannot tell: with True the residuals are
            kept, with False they are computed again by `forward` if a gradient is asked for after all.

    Returns:
        The outputs.

    Raises:
        ValueError: If the functions use variables that are not among the arguments.
    """
    flat = [tf.convert_to_tensor(x) for x in tf.nest.flatten(arguments)]
    structure: list[Nest] = []  # of the outputs, known once the function has run

    @tf.custom_gradient
    def function(*tensors: tf.Tensor) -> tuple:
        inputs = tf.nest.pack_sequence_as(arguments, tensors)
        outputs, residuals = forward(*inputs) if keep_residuals else (primal(*inputs), None)

        def gradient(*cotangents: tf.Tensor) -> list:
            kept = residuals if keep_residuals else forward(*inputs)[1]
            cotangent = tf.nest.pack_sequence_as(outputs, list(cotangents))
            return tf.nest.flatten(backward(kept, cotangent))

        structure.append(outputs)
        return tuple(tf.nest.flatten(outputs)), gradient

    try:
        results = function(*flat)
    except TypeError as error:
        if "must accept keyword argument 'variables'" not in str(error):
            raise
        raise ValueError(
            f"A function with a gradient of its own may use no variables but those that are its arguments: {error} "
            "A cell names the weights that its gates use in gate_weights, and gets them as arguments of gates."
        ) from error
    return tf.nest.pack_sequence_as(structure[0], list(results))


def prevent_gradient(values: Nest, message: str) -> Nest:
    """Return tensors as they are, but have whoever asks for their gradient get an error that says `message`.

    In a graph the error comes when the gradient is computed: TensorFlow builds gradients that nobody asked for. XLA has
    no errors; there the gradient is NaN, so a warning is given when it is built.
    """

    @tf.custom_gradient
    def identity(x: tf.Tensor) -> tuple:
        def gradient(cotangent: tf.Tensor) -> tf.Tensor:
            if tf.executing_eagerly():
                raise NotImplementedError(message)
            warnings.warn(f"{message} Compiled by XLA, that gradient is NaN.", stacklevel=2)
            with tf.control_dependencies([tf.debugging.Assert(False, [message])]):
                return tf.fill(tf.shape(cotangent), tf.cast(float("nan"), cotangent.dtype))

        return tf.identity(x), gradient

    return tf.nest.map_structure(identity, values)


def compiled(function: Callable[..., Nest]) -> Callable[..., Nest]:
    """Return a pure function of nests of tensors, compiled by XLA once for each of their shapes."""
    return tf.function(function, autograph=False, jit_compile=True)


def bitcast(values: tf.Tensor, dtype: str) -> tf.Tensor:
    """Return the bits of `values` read as another dtype of the same width."""
    return tf.bitcast(values, dtype)


def known_value(tensor: Any) -> np.ndarray | None:
    """Return the value of a tensor or array, or None where it is not known before the graph runs."""
    if not tf.is_tensor(tensor):
        return np.asarray(tensor)
    return tensor.numpy() if hasattr(tensor, "numpy") else tf.get_static_value(tensor)


def random_bits(shape: Any, seed: keras.random.SeedGenerator) -> tf.Tensor:
    """Return uint32 random numbers of all 32 bits, of the given shape.

    The generator is named: the one that XLA picks by itself takes up to a hundred times as long on a processor.
    """
    all_bits: Any = None  # in place of a range
    return tf.random.stateless_uniform(
        shape, seed=_next_seed(seed), minval=all_bits, maxval=all_bits, dtype=tf.uint32, alg="philox"
    )


def dropout_mask(like: tf.Tensor, rate: float, seed: keras.random.SeedGenerator) -> tf.Tensor:
    """Return what to multiply `like` by in order to drop a share `rate` of it: 0, or 1 / (1 - rate) elsewhere.

    It drops what `keras.random.dropout` in float32 drops outside XLA, in any precision and compiled or not.
    """
    if rate >= 1.0:
        return tf.zeros_like(like)
    bits = tf.bitwise.bitwise_and(random_bits(tf.shape(like), seed), tf.constant(MANTISSA, tf.uint32))
    numbers = tf.cast(bits, tf.float32) / (MANTISSA + 1.0)  # in [0, 1)
    return tf.ensure_shape(tf.where(numbers >= rate, tf.cast(1.0 / (1.0 - rate), like.dtype), 0), like.shape)


def fresh_seed() -> tf.Tensor:
    """Return a seed, an int32 scalar, that is another at each call: of a compiled or exported function, too."""
    return tf.random.uniform((), maxval=tf.int32.max, dtype=tf.int32)


def _next_seed(seed: keras.random.SeedGenerator) -> tf.Tensor:
    """Return a seed, int32 as XLA wants it, of the int64 that Keras keeps; folded as Keras does."""
    return tf.cast(tf.math.floormod(seed.next(), tf.int32.max - 1), tf.int32)
