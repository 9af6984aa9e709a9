"""Loops on TensorFlow.

AutoGraph does not convert these functions: their arguments use operations, not Python's control flow.
"""

from collections.abc import Callable
from typing import Any, Literal

import tensorflow as tf
from tensorflow.compiler.tf2xla.python.xla import dynamic_update_slice  # no public API

from kseq.backend.tensorflow import under_xla

Nest = Any


@tf.autograph.experimental.do_not_convert
def scan(
    step: Callable[[Nest, Nest], tuple[Nest, Nest]],
    carry: Nest,
    inputs: Nest,
    *,
    reverse: bool = False,
    unroll: bool = False,
    fetch_ahead: bool | None = None,
    like: Callable[[], Nest] | None = None,
) -> tuple[Nest, Nest]:
    """Run `carry, output = step(carry, input)` over the leading axis of `inputs`.

    Args:
        step: A pure function. The new carry has the structure, shapes and dtypes of the old one. The output may be any
            nest, including an empty one.
        carry: Initial carry, any nest of tensors.
        inputs: Nest of tensors `(time, ...)`, at least one.
        reverse: Run from the last element to the first. Each output has the index of its input.
        unroll: Unroll the loop; needs a static `time`.
        fetch_ahead: Whether the loop may read a step's inputs during the step before; XLA otherwise reads them in each
            kernel that uses them. On JAX the automatic gradient of such a loop takes quadratic time, so use it for
            loops with a hand-written gradient. For few steps with large inputs the copies cost more than they save: use
            False. None means True on TensorFlow and False on JAX.
        like: A function that returns tensors of the shapes and dtypes of a step's output. Without it, a step is traced
            once more, outside the loop, to infer them.

    Returns:
        `(carry, outputs)`: the last carry, and the outputs stacked to `(time, ...)` each.
    """

    def without_buffers(carry: Nest, at: tuple[Nest, Nest]) -> tuple[Nest, tuple[Nest, Nest]]:
        carry, output = step(carry, at[0])
        return carry, (output, ())

    ahead = fetch_ahead is not False
    carry, (outputs, _) = scan_in_place(
        without_buffers, carry, inputs, (), reverse=reverse, unroll=unroll, fetch_ahead=ahead, like=like
    )
    return carry, outputs


@tf.autograph.experimental.do_not_convert
def scan_in_place(
    step: Callable[[Nest, tuple[Nest, Nest]], tuple[Nest, tuple[Nest, Nest]]],
    carry: Nest,
    inputs: Nest,
    buffers: Nest,
    *,
    reverse: bool = False,
    unroll: bool = False,
    fetch_ahead: bool | Literal["buffers"] = True,
    keep_carries: bool = False,
    like: Callable[[], Nest] | None = None,
    length: tf.Tensor | None = None,
) -> tuple[Nest, tuple[Nest, Nest]]:
    """Run `carry, (output, buffer) = step(carry, (input, buffer))`, with each element of a buffer overwritten.

    A loop first fills memory for its outputs with zeros. Writing outputs over inputs that are no longer needed saves
    this time and memory. Not for loops that the backend differentiates.

    Args:
        step: As in `scan`. The buffers it returns have the structure, shapes and dtypes of those it was given.
        carry: As in `scan`.
        inputs: As in `scan`, but may be an empty nest.
        buffers: Nest of tensors `(time, ...)` that are read and overwritten.
        reverse: As in `scan`.
        unroll: As in `scan`.
        fetch_ahead: As in `scan`. Use False for a step that passes all its inputs to one costly operation. With
            "buffers" only the buffers' elements are read ahead; for a step that reads a buffer in several operations,
            XLA would otherwise copy the whole buffer at each step. On JAX this is the same as True.
        keep_carries: Whether to return every carry.
        like: As in `scan`, for the outputs without the buffers.
        length: int32 scalar, the number of elements at the beginning that the loop runs over; None means all. Outputs
            of the others are 0, their buffers are unchanged.

    Returns:
        `(carry, (outputs, buffers))`. With `keep_carries`, `(outputs, carries)` takes the place of outputs: carries are
        `(time + 1, ...)` each, the initial one first, or last if the loop goes in reverse.
    """
    leading = tf.nest.flatten((inputs, buffers))[0]
    if unroll and leading.shape[0] is None:
        raise ValueError(
            f"unroll=True needs a static number of time steps, but the input has shape {leading.shape}. "
            "Give the input a fixed time dimension or use unroll=False."
        )
    if unroll or tf.executing_eagerly():
        steps = leading.shape[0] if length is None else int(length)
        carry, (outputs, written) = _unrolled(step, carry, (inputs, buffers), steps, reverse, keep_carries)
        if steps < leading.shape[0]:
            rest = leading.shape[0] - steps
            outputs = tf.nest.map_structure(lambda x: tf.pad(x, [[0, rest], *[[0, 0]] * (len(x.shape) - 1)]), outputs)
            written = tf.nest.map_structure(lambda x, y: tf.concat([x, y[steps:]], 0), written, buffers)
        return carry, (outputs, written)
    return _loop(step, carry, inputs, buffers, leading, reverse, fetch_ahead, keep_carries, like, length)


@tf.autograph.experimental.do_not_convert
def stateful_scan(
    step: Callable[[Nest, Nest], tuple[Nest, Nest]],
    carry: Nest,
    inputs: Nest,
    variables: list,
    *,
    unroll: bool = False,
    like: Callable[[], Nest] | None = None,
) -> tuple[Nest, Nest]:
    """Like `scan`, for a step that need not be pure, and whose gradient is left to the backend.

    Args:
        step: As in `scan`, but it may assign the `variables`: each step reads what the step before assigned.
        carry: As in `scan`.
        inputs: As in `scan`.
        variables: The Keras variables that `step` may assign, the states of random generators for example.
        unroll: As in `scan`.
        like: As in `scan`.

    Returns:
        `(carry, outputs)` as in `scan`.
    """
    # Only JAX needs `variables`: TensorFlow's loops assign variables without help.
    # If inputs were fetched ahead, an unknown batch size would be a shape in the gradient that XLA cannot compile.
    return scan(step, carry, inputs, unroll=unroll, fetch_ahead=False, like=like)


def _unstack(stacked: Nest) -> Nest:
    """Return a TensorArray for each tensor `(time, ...)`; the gradient of reading it is written in place."""
    return tf.nest.map_structure(
        lambda x: tf.TensorArray(x.dtype, tf.shape(x)[0], element_shape=x.shape[1:], clear_after_read=False).unstack(x),
        stacked,
    )


def _arrays(like: Nest, length: tf.Tensor) -> Nest:
    """Return an empty TensorArray for each tensor, for elements of its shape and dtype."""
    return tf.nest.map_structure(
        lambda x: tf.TensorArray(x.dtype, size=length, element_shape=x.shape, clear_after_read=False), like
    )


def _read(arrays: Nest, index: tf.Tensor) -> Nest:
    return tf.nest.map_structure(lambda array: array.read(index), arrays)


def _write(arrays: Nest, index: tf.Tensor | int, values: Nest) -> Nest:
    return tf.nest.map_structure(lambda array, x: array.write(index, x), arrays, values)


def _unrolled(
    step: Callable, carry: Nest, inputs: tuple[Nest, Nest], length: int, reverse: bool, keep: bool
) -> tuple[Nest, tuple[Nest, Nest]]:
    """Write the steps of `scan_in_place` out."""
    outputs, carries = [], [carry]
    for time in reversed(range(length)) if reverse else range(length):
        carry, output = step(carry, tf.nest.map_structure(lambda x, t=time: x[t], inputs))
        outputs.append(output)
        carries.append(carry)
    if not outputs:
        raise ValueError("scan got 0 time steps, and cannot know the outputs' shapes. Give at least one time step.")
    outputs, carries = (_stack(steps[::-1] if reverse else steps) for steps in (outputs, carries if keep else [()]))
    outputs, buffers = outputs
    return carry, ((outputs, carries) if keep else outputs, buffers)


def _stack(steps: list[Nest]) -> Nest:
    return tf.nest.map_structure(lambda *tensors: tf.stack(tensors), *steps)


def _loop(
    step: Callable,
    carry: Nest,
    inputs: Nest,
    buffers: Nest,
    leading: tf.Tensor,
    reverse: bool,
    ahead: bool | Literal["buffers"],
    keep: bool,
    like: Callable[[], Nest] | None,
    length: tf.Tensor | None,
) -> tuple[Nest, tuple[Nest, Nest]]:
    """Run the steps of `scan_in_place` in a `tf.while_loop`."""
    size, steps = tf.shape(leading)[0], leading.shape[0]
    length = size if length is None else length
    carry = tf.nest.map_structure(tf.convert_to_tensor, carry)
    last = tf.maximum(length - 1, 0)
    given, kept = _unstack(inputs), _unstack(buffers)

    def fetched(index: tf.Tensor, kept: Nest) -> tuple[Nest, Nest]:
        """Return the elements that are read ahead."""
        return _read(given, index) if ahead is True else (), _read(kept, index) if ahead else ()

    def elements(index: tf.Tensor, kept: Nest, current: tuple[Nest, Nest]) -> tuple[Nest, Nest]:
        """Return the elements of this step, of which `current` were read ahead."""
        return current[0] if ahead is True else _read(given, index), current[1] if ahead else _read(kept, index)

    if like is None:  # nothing uses the values of this step, so it is never run
        _, (output, _) = step(carry, tf.nest.map_structure(lambda x: x[0], (inputs, buffers)))
    else:
        output = like()
    made = _arrays(output, size)
    carries = _write(_arrays(carry if keep else (), size + 1), length if reverse else 0, carry if keep else ())

    def body(count: tf.Tensor, current: Nest, carry: Nest, made: Nest, kept: Nest, carries: Nest) -> tuple:
        index, following = last - count if reverse else count, count + 1
        new_carry, (outputs, new_kept) = step(carry, elements(index, kept, current))
        new_carry = _with_shapes_of(carry, new_carry)
        made, kept = _write(made, index, outputs), _write(kept, index, new_kept)
        carries = _write(carries, index if reverse else following, new_carry if keep else ())
        # Buffers are read after they were written: XLA then needs no copy of them.
        current = fetched(tf.maximum(index - 1, 0) if reverse else tf.minimum(following, last), kept)
        return following, current, new_carry, made, kept, carries

    first = fetched(last if reverse else tf.constant(0), kept)
    _, _, carry, made, kept, carries = tf.while_loop(
        lambda count, *_: count < length,
        body,
        (tf.constant(0), first, carry, made, kept, carries),
        maximum_iterations=size if steps is None else steps,
    )
    outputs, buffers, carries = tf.nest.map_structure(lambda array: array.stack(), (made, kept, carries))
    for each in tf.nest.flatten((outputs, buffers)):
        each.set_shape([steps, *each.shape[1:]])
    for each in tf.nest.flatten(carries):
        each.set_shape([None if steps is None else steps + 1, *each.shape[1:]])
    return carry, ((outputs, carries) if keep else outputs, buffers)


@tf.autograph.experimental.do_not_convert
def write_position(buffer: tf.Tensor, values: tf.Tensor, position: tf.Tensor, axis: int) -> tf.Tensor:
    """Return `buffer` with `values`, of length 1 along an axis, at a position, an int32 scalar.

    Under XLA a loop writes into the buffer itself, which it copies otherwise. What a position outside of the buffer
    gives is not defined.
    """
    here = tf.range(tf.shape(buffer)[axis]) == position
    here = tf.reshape(here, [-1, *[1] * (len(buffer.shape) - axis - 1)])
    if not under_xla():
        return tf.where(here, values, buffer)

    @tf.custom_gradient
    def write(buffer: tf.Tensor, values: tf.Tensor) -> tuple:
        def gradient(cotangent: tf.Tensor) -> tuple:
            of_values = tf.reduce_sum(tf.where(here, cotangent, tf.zeros_like(cotangent)), axis=axis, keepdims=True)
            return tf.where(here, tf.zeros_like(cotangent), cotangent), of_values

        start = tf.stack([position if each == axis else 0 for each in range(len(buffer.shape))])
        return tf.ensure_shape(dynamic_update_slice(buffer, values, start), buffer.shape), gradient

    written: Any = write(buffer, values)
    return written


@tf.autograph.experimental.do_not_convert
def while_loop(condition: Callable[[Nest], Any], body: Callable[[Nest], Nest], state: Nest) -> Nest:
    """Repeat `state = body(state)` while `condition(state)` holds.

    Args:
        condition: `state -> bool` scalar.
        body: `state -> state`, of the same structure, shapes and dtypes.
        state: Any nest of tensors, NamedTuples included.

    Returns:
        The first state for which `condition` does not hold.
    """
    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    (state,) = tf.while_loop(condition, lambda current: (_with_shapes_of(current, body(current)),), (state,))
    return state


def _with_shapes_of(old: Nest, new: Nest) -> Nest:
    """Return `new` with the static shapes of `old`, which operations may have lost."""

    def keep(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(after, before.shape) if after.shape != before.shape else after

    return tf.nest.map_structure(keep, old, new)
