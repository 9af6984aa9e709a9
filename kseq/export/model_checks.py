"""Checks of a Keras model before it is exported: whether padding, or a graph of unknown shapes, changes its answers."""

import functools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kseq.backend import Tensor
from kseq.export.answers.preset import Outputs
from kseq.models.export_contract import RowInputs, StepInputs

TOLERANCE = 1e-3  # other orders of summation differ by less, other answers by more


def check_model(called: Any, buckets: Sequence[int]) -> Any:
    """Run a Keras model on a random row, alone and padded, eagerly and in a graph.

    Args:
        called: The `KerasModel`.
        buckets: The numbers of steps to which rows are padded.

    Returns:
        The shape of the model's output; a list or dict of shapes if it has several.

    Raises:
        ValueError: If the model answers otherwise in a graph of unknown shapes, as exported, than eagerly.

    Warns:
        UserWarning: If padding changes the answers.
    """
    longest = buckets[-1]
    length = longest if called.steps is not None else max(1, longest - max(1, longest // 4))
    row = {name: _random_row(of, longest) for name, of in called.inputs.items()}

    def of_width(width: int) -> dict[str, Tensor]:
        given = {name: _cut(row[name], width, length, of) for name, of in called.inputs.items()}
        return {**given, **{told: ops.convert_to_tensor([length], "int32") for told in called.lengths.values()}}

    try:
        padded = called(of_width(longest))
    except (ValueError, TypeError, tf.errors.OpError):
        if not called.lengths:
            raise
        # A layer may pass its input's mask on although it changes the number of steps. The next one refuses the mask.
        called.takes_mask = False
        padded = called(of_width(longest))
    _check_graph(called, of_width(longest), padded)
    if length < longest and called.lengths:
        _warn_of_padding(called, called(of_width(length)), padded, (length, longest))
    return _shape_of(padded.values)


def _check_graph(called: Any, row: dict[str, Tensor], expected: Outputs) -> None:
    """Raise ValueError if two equal rows get another answer in a graph than the row eagerly."""
    specs = {}
    for name, value in row.items():
        time = [None] if name in called.lengths and called.steps is None else value.shape[1:2]
        specs[name] = tf.TensorSpec([None, *time, *value.shape[2:]], value.dtype)

    def answer(values: dict[str, Tensor]) -> Any:
        return called(values).values

    # TensorFlow counts the tracings of a function's code, and would warn when several models are checked. A partial
    # is counted by itself.
    in_graph = tf.function(functools.partial(answer), autograph=False, input_signature=[specs])
    graphs = in_graph({name: tf.repeat(value, 2, axis=0) for name, value in row.items()})
    for own, graph in zip(keras.tree.flatten(expected.values), keras.tree.flatten(graphs), strict=True):
        if (2, *own.shape[1:]) != tuple(graph.shape) or _distance(tf.repeat(own, 2, axis=0), graph) > TOLERANCE:
            raise ValueError(
                f"This {type(called.model).__name__} answers otherwise in an exported graph, where the numbers of rows "
                f"and steps are not known, than in Python: two rows give an output of shape {tuple(graph.shape)}, but "
                f"one row gives {tuple(own.shape)}. keras.layers.TimeDistributed is known to do this: use Reshape, or "
                "a layer that acts on each step by itself, such as Dense. Or give the model's Input fixed sizes."
            )


def _warn_of_padding(called: Any, alone: Outputs, padded: Outputs, steps: tuple[int, int]) -> None:
    difference = _difference(alone, padded)
    if difference > TOLERANCE:
        warnings.warn(
            f"Padding changes the answers of this {type(called.model).__name__}: the outputs of a row differ by up to "
            f"{difference:.2g} when it is padded from {steps[0]} to {steps[1]} steps. A layer does not use masks, such "
            "as a convolution or Flatten, or loses them, such as Embedding without mask_zero=True. Use layers that do, "
            "such as those of kseq.layers and kseq.frontends, or fix the number of steps in the model's Input and "
            "train with padding to it.",
            stacklevel=6,
        )


def _random_row(inputs: StepInputs | RowInputs, longest: int) -> np.ndarray:
    random = np.random.default_rng(0)
    if isinstance(inputs, RowInputs):
        return random.uniform(size=[1, *(1 if axis is None else axis for axis in inputs.shape)])
    shape = [1, longest, *(1 if axis is None else axis for axis in inputs.step_shape)]
    if inputs.dtype.startswith("int"):
        size = inputs.vocabulary_size or 2
        return random.integers(min(1, size - 1), size, shape)  # id 0 may stand for padding
    return random.uniform(0.1, 1.0, shape)


def _cut(row: np.ndarray, width: int, length: int, inputs: StepInputs | RowInputs) -> Tensor:
    if isinstance(inputs, RowInputs):
        return ops.convert_to_tensor(row.astype(inputs.dtype))
    row = row[:, :width].astype(inputs.dtype)
    row[:, length:] = inputs.pad_value
    return ops.convert_to_tensor(row)


def _difference(alone: Outputs, padded: Outputs) -> float:
    """Return the largest difference of the real parts of two outputs for the same row."""
    worst = 0.0
    for one, other in zip(keras.tree.flatten(alone.values), keras.tree.flatten(padded.values), strict=True):
        if len(one.shape) > 2 and one.shape[1] <= other.shape[1]:
            steps = one.shape[1] if alone.mask is None else int(ops.sum(ops.cast(alone.mask, "int32")))
            one, other = one[:, :steps], other[:, :steps]
        worst = max(worst, _distance(one, other) if one.shape == other.shape else math.inf)
    return worst


def _distance(one: Tensor, other: Tensor) -> float:
    """Return the largest difference of two tensors of equal shapes."""
    one, other = (np.asarray(ops.convert_to_numpy(value), "float64") for value in (one, other))
    return float(np.max(np.abs(one - other), initial=0.0))


def _shape_of(outputs: Any) -> Any:
    if hasattr(outputs, "shape"):
        return (None, *outputs.shape[1:])
    return keras.tree.map_structure(lambda value: (None, *value.shape[1:]), outputs)
