"""Runs a layer's own step over a sequence: attention with input feeding, in `AttentionRNN` and in decoders."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree
from keras.src.backend.common.stateless_scope import get_stateless_scope  # no public API

from kseq import backend
from kseq.attention import Memory
from kseq.cells.dropout_masks import DropoutMasks, drawn_masks, masks_given, masks_of_one_call
from kseq.compiled_parts import compiles_parts, equal_layers
from kseq.engine.closure_check import is_ours
from kseq.engine.step_loop import StepLoop
from kseq.engine.stepwise_loop import loop
from kseq.masking import mask_from_lengths
from kseq.padded_sizes import FRAMES, STEPS, fixed_size, pad, padded_size

Step = Callable[[Any, Any, Any], tuple[Any, Any]]  # (state, inputs, constants) -> (new state, outputs)


def compiles_steps(layer: keras.layers.Layer, tensors: list) -> bool:
    """Return whether `run_steps` will have XLA compile the loop by itself, see `kseq.config.set_jit_compile`."""
    precise = layer.compute_dtype in ("float32", "float64")  # XLA's products in bfloat16 are slow on a processor
    return (
        precise and is_ours(layer) and compiles_parts(lambda: [*tensors, *layer.trainable_variables], call=lambda: None)
    )


def padded_source(values: Any, mask: Any) -> tuple[Any, Any]:
    """Return `values` `(batch, time, dim)` and their mask, padded so that a compiled loop meets few source lengths."""
    if fixed_size(values, 1) is not None:
        return values, mask
    batch, time = ops.shape(values)[:2]
    if mask is None:
        mask = mask_from_lengths(ops.full((batch,), time, "int32"), time)
    size = padded_size(time, FRAMES)
    return pad(values, 1, size), pad(mask, 1, size)


def constants_of(memory: Memory) -> tuple:
    """Return a memory as a nest of tensors: `(keys, values, mask)`, with () for no mask."""
    return memory.keys, memory.values, () if memory.mask is None else memory.mask


def memory_of(constants: tuple) -> Memory:
    """Return the memory of `constants_of`."""
    keys, values, mask = constants
    return Memory(keys, values, None if isinstance(mask, tuple) else mask)


def run_steps(
    layer: keras.layers.Layer,
    take: Step,
    state: Any,
    inputs: Any,
    constants: Any,
    *,
    training: bool,
    compiles: bool = False,
) -> tuple[Any, Any]:
    """Run a step function of a layer over a sequence.

    The cells of the layer drop the same units at all steps. All random numbers are drawn before the loop, except those
    of cells that draw new ones at each step.

    Args:
        layer: The layer whose variables the step uses.
        take: A function of `(state, inputs, constants)`, nests of tensors, that returns the new state, of the same
            structure, and the outputs. It uses no other tensors, except the layer's variables.
        state: The state before the first step, `(rows, ...)` each.
        inputs: The inputs of all steps, time-major, `(time, rows, ...)` each.
        constants: What all steps share, `(rows, ...)` each.
        training: Whether dropout is on, and a gradient is likely to be asked for.
        compiles: What `compiles_steps` returned.

    Returns:
        `(final state, outputs (time, rows, ...))`.
    """
    cells = [each for each in layer._flatten_layers() if isinstance(each, DropoutMasks)]
    with masks_of_one_call():
        first = tree.map_structure(lambda x: x[0], inputs)
        if training:  # the cells draw their masks
            take(state, first, constants)
        given = constants, drawn_masks(cells)

        def step(state: Any, inputs: Any, given: Any) -> tuple[Any, Any]:
            constants, masks = given
            with masks_given(cells, masks):
                return take(state, inputs, constants)

        if not is_ours(layer) or (training and _assigns(layer, lambda: step(state, first, given))):
            outputs, final = loop(
                lambda at, state: step(state, at, given)[::-1],
                inputs,
                state,
                None,
                layer.non_trainable_variables,
                return_sequences=True,
                unroll=False,
            )
            return final, outputs
        variables = [each for each in layer.variables if keras.backend.is_float_dtype(each.dtype)]
        steps = StepLoop(step, variables)
        arguments = _Arguments(state, inputs, given)
        if compiles:
            return _run_compiled(layer, steps, arguments, training)
        return backend.custom_gradient(*steps.functions, (*arguments.all, steps.weights(), ()), keep_residuals=training)


def _assigns(layer: keras.layers.Layer, step: Callable[[], Any]) -> bool:
    """Return whether a step assigns variables: draws new random numbers, or keeps statistics."""
    around = get_stateless_scope()
    before = {} if around is None else dict(around.state_mapping)
    with keras.StatelessScope() as scope:
        scope.state_mapping.update(before)
        step()
    return any(scope.get_current_value(each) is not before.get(id(each)) for each in layer.variables)


class _Arguments:
    """The state, inputs and constants of a loop."""

    def __init__(self, state: Any, inputs: Any, constants: Any):
        self.all = state, inputs, constants

    def padded(self, steps: Any, rows: Any) -> tuple[Any, Any, Any]:
        """Return them padded to numbers of steps and rows; None for a number that is fixed."""
        state, inputs, constants = self.all
        if rows is not None:
            state, constants = tree.map_structure(lambda x: pad(x, 0, rows), (state, constants))
            inputs = tree.map_structure(lambda x: pad(x, 1, rows), inputs)
        if steps is not None:
            inputs = tree.map_structure(lambda x: pad(x, 0, steps), inputs)
        return state, inputs, constants


def _run_compiled(layer: keras.layers.Layer, steps: StepLoop, arguments: _Arguments, training: bool) -> tuple[Any, Any]:
    """Return the results of a loop that XLA compiles by itself, with sizes that are unknown padded."""
    leading = tree.flatten(arguments.all[1])[0]
    time, rows = ops.shape(leading)[:2]
    known_time, known_rows = fixed_size(leading, 0), fixed_size(leading, 1)
    padded = arguments.padded(
        None if known_time is not None else padded_size(time, STEPS),
        None if known_rows is not None else padded_size(rows),
    )
    length = () if known_time is not None else ops.convert_to_tensor(time, "int32")
    key = equal_layers(layer)
    functions = steps.functions.compiled(None if key is None else (key, "steps", training))
    final, outputs = backend.custom_gradient(
        *functions,
        (*padded, steps.weights(), length),
        keep_residuals=training,
        differentiable=steps.functions[1:],
    )
    final = tree.map_structure(lambda x: x[:rows], final)
    return final, tree.map_structure(lambda x: x[:time, :rows], outputs)
