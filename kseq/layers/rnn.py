"""The recurrent layer for any cell."""

import contextlib
import functools
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.cells import Cell, StackedCells
from kseq.cells.cell import axes
from kseq.cells.copies import check_config, check_step
from kseq.cells.dropout_masks import masks_of_one_call
from kseq.config import JitCompile, check_jit_compile, jit_compile_scope
from kseq.engine.stepwise_loop import SymbolicStep, run_stepwise
from kseq.inner_layers import freeze_inner_layers
from kseq.layers.carried_state import CarriedState
from kseq.layers.sequences import (
    cast_floats,
    check_sequences,
    check_shape,
    hold_outputs,
    is_float,
    joint_mask,
    swap_time,
    symbolic_sequences,
)
from kseq.low_precision import warn_of_slow_precision
from kseq.masking import zero_padding
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class RNN(keras.layers.RNN, metaclass=ShortHelp):
    """Runs a cell over time: `keras.layers.RNN` with its arguments, on kseq's engine.

    A `kseq.cells.Cell` runs on the engine: one product projects the inputs of all steps, and backpropagation through
    time stores only the states. Any other cell (a `keras.layers.Layer`, or an object with `state_size` and
    `call(inputs, states) -> (output, new states)`) is called step by step, and so is a cell whose precision differs
    from the layer's. Inputs and outputs of such a cell may be nests. For example, if the sequences are a dict, the cell
    gets a dict of their steps; if the cell returns a dict, the layer returns a dict of sequences.

    At padded steps (whose mask is False) the state is held. Padding never changes a result: NaN in the padding leaves
    outputs and gradients as they were. A row without real steps returns its initial state, and zeros as its output.

    With `stateful` a batch continues where the previous batch ended: sequences in pieces give the same results as whole
    sequences, masked or not. The layer needs a fixed batch size. `reset_state()` resets it to the cell's initial state
    (a learned one has its value at the next call), `reset_state(states)` to the given states. Do not export a stateful
    layer: the clients of a server would continue from each other's states. Instead, export a layer that is not
    stateful, with `return_state`, and let clients send the returned states back as `initial_state`.

    Args:
        cell: A cell, or a list of cells to stack. kseq cells are stacked in a `kseq.cells.StackedCells`, whose state is
            flat.
        jit_compile: Whether XLA compiles the loop over time by itself where the graph around it is not compiled. True
            and False take precedence over `kseq.config.set_jit_compile`; "auto" leaves the choice to it. A cell that
            is not kseq's own is compiled only with True, since XLA may not know its operations.
        **kwargs: `return_sequences`, `return_state`, `go_backwards`, `stateful`, `unroll`, `zero_output_for_mask`, as
            in Keras.

    Call arguments:
        sequences: Float `(batch, time, features)`, or any nest of tensors `(batch, time, ...)` that the cell accepts.
        initial_state: List of tensors `(batch, units)`, one for each of the cell's states. By default the cell's
            initial state.
        mask: Bool `(batch, time)`, True at the real steps. If several sequences have masks, a step is real if it is
            real in all of them.
        training: Whether dropout is on.

    Returns:
        The outputs `(batch, time, units)` with `return_sequences`, else that of the last real step `(batch, units)`. As
        in Keras, `zero_output_for_mask` makes the latter zero for a row that ends in padding. With `return_state`, a
        tuple of the outputs and the final states.

    Raises:
        ValueError: If `cell` is not a cell; if the mask's shape is not `(batch, time)`; if `initial_state` does not
            have one tensor for each state; if a tensor is ragged; if the batch size of a stateful layer changes (in a
            compiled graph this is the backend's error); or, when a model is saved, if the `get_config` of the cell
            lacks an argument of its constructor.

    Example:
        >>> kseq.layers.RNN(kseq.cells.GRUCell(16), return_sequences=True)(np.zeros((2, 10, 8))).shape
        (2, 10, 16)
    """

    _carried: CarriedState | None = None  # set when a stateful layer is built

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        *,
        jit_compile: JitCompile = "auto",
        **kwargs: Any,
    ):
        # In subclasses such as LSTM, super() is Keras's LSTM, whose constructor would create a cell of its own.
        keras.layers.RNN.__init__(
            self,
            as_cell(cell, type(self).__name__),
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            **kwargs,
        )
        self.jit_compile: JitCompile = check_jit_compile(jit_compile)
        freeze_inner_layers(self)
        self.supports_masking = True  # from 3.16 on, Keras's constructor sets it to False

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Create the cell's weights, and the variables of a stateful layer."""
        warn_of_slow_precision(self.compute_dtype)
        cell = self.cell
        has_build = isinstance(cell, keras.layers.Layer) and type(cell).build is not keras.layers.Layer.build
        if has_build and not cell.built:  # other cells build their layers at the first step
            cell.build(tree.map_shape_structure(lambda shape: (shape[0], *shape[2:]), sequences_shape))
        for layer in self._flatten_layers(include_self=False):
            if isinstance(layer, Cell):
                layer.check_weights()
        if isinstance(cell.state_size, list | tuple):  # a cell may know its spatial sizes only after `build`
            self.state_size = list(cell.state_size)
        if self.stateful:
            sequences = symbolic_sequences(sequences_shape, self.compute_dtype)
            self._expected_batch_size = tree.flatten(sequences)[0].shape[0]
            if self._expected_batch_size is None:
                raise ValueError(
                    f"stateful=True needs a fixed batch size, but the sequences have shape {sequences_shape}. Give it "
                    "to keras.Input(batch_shape=(batch, time, features)), as the first layer of a Sequential model too."
                )
            self._create_state_variables(self._expected_batch_size)
            self._carried = CarriedState(self.states, self._step_spec(sequences)[0])

    @property
    def variables(self) -> list:
        """All variables, including the carried state of a stateful layer, which is not among the weights."""
        return super().variables + ([] if self._carried is None else self._carried.variables)

    def get_initial_state(self, batch_size: int | Tensor) -> list:
        """Return the cell's initial state, or zeros if the cell does not define one."""
        if hasattr(self.cell, "get_initial_state"):
            state = self.cell.get_initial_state(batch_size=batch_size)
            return list(state) if tree.is_nested(state) else [state]
        return [ops.zeros((batch_size, *axes(size)), dtype=self._cell_dtype) for size in self.state_size]

    def reset_state(self, states: Any = None) -> None:
        """Reset a stateful layer to the cell's initial state, or to `states`, in the form of `initial_state`."""
        if self._carried is not None:
            initial = self.get_initial_state(self._expected_batch_size) if states is None else states
            self._carried.reset(self._check_state(initial, self._expected_batch_size), at_start=states is None)
        elif states is not None:
            raise ValueError(f"{self.name} carries no state. Make it with stateful=True, and build it first.")

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool | None = False) -> Any:
        """Run all steps; see the class for arguments and results."""
        check_sequences(sequences, type(self).__name__, features=isinstance(self.cell, Cell))
        mask = joint_mask(mask, sequences)
        given = tree.flatten(sequences)[0]
        if self._carried is not None:
            sequences, mask = self._check_batch(sequences), None if mask is None else self._check_batch(mask)
        sequences = tree.map_structure(lambda x: zero_padding(x, mask), sequences)
        goes_on = self._carried is not None and initial_state is None
        if initial_state is None:
            initial_state = self.get_initial_state(ops.shape(tree.flatten(sequences)[0])[0])
        state = self._carried.begin(initial_state) if goes_on else initial_state
        state = self._check_state(state, ops.shape(tree.flatten(sequences)[0])[0])
        with masks_of_one_call(), self._keras_masks_of_one_call(), jit_compile_scope(self.jit_compile):
            if self._uses_cudnn(mask):
                last, output, states = self.inner_loop(sequences, state, mask=mask, training=bool(training))
                output = output if self.return_sequences else last
            else:
                output, states = self._run(
                    tree.map_structure(self._to_run, sequences),
                    tuple(state),
                    None if mask is None else self._to_run(mask),
                    return_sequences=self.return_sequences,
                    unroll=self.unroll,
                    training=bool(training),
                )
                output = tree.map_structure(swap_time, output) if self.return_sequences else output
        output, states = (cast_floats(nest, self.compute_dtype) for nest in (output, states))
        if mask is not None:
            output = self._hold(output, mask, self._carried.last_output() if goes_on else None)
        if self._carried is not None:
            last = tree.map_structure(lambda x: x[:, -1], output) if self.return_sequences else output
            self._carried.keep(states, last)
            output, states = tree.map_structure(lambda x: backend.unknown_rows(x, given), (output, states))
        return (output, *states) if self.return_state else output

    def _check_batch(self, sequences: Any) -> Any:
        """Return the sequences with the batch size of the carried state, or raise if theirs differs."""
        batch_size, given = self._expected_batch_size, tuple(tree.flatten(sequences)[0].shape)
        if given[0] not in (None, batch_size):
            raise ValueError(
                f"{self.name} is stateful and carries states of {batch_size} rows, but the sequences have shape "
                f"{given}. Feed batches of {batch_size} rows (drop_remainder=True, or a number of rows that batch_size "
                "divides), or build a new layer."
            )
        # If the batch size is not static, a batch of a single row would be broadcast to all rows.
        name = f"stateful_layer_needs_batches_of_{batch_size}_rows_use_drop_remainder"
        return tree.map_structure(lambda x: backend.require_rows(x, batch_size, name), sequences)

    def _check_state(self, initial_state: Any, batch_size: int | Tensor) -> list:
        """Return the state as a list in the cell's precision, or raise if its shapes do not fit the cell."""
        state = list(initial_state) if tree.is_nested(initial_state) else [initial_state]
        if any(isinstance(leaf, float | int) for leaf in tree.flatten(state)):  # tensors given as Python lists
            state = [ops.convert_to_tensor(tensor, self._cell_dtype) for tensor in state]
        if len(state) != len(self.state_size):
            raise ValueError(
                f"initial_state has {len(state)} tensors, but {type(self.cell).__name__} has "
                f"{len(self.state_size)} states. Give one tensor (batch, units) for each."
            )
        missing = [place for place, tensor in enumerate(state) if tensor is None]
        if missing:
            raise ValueError(
                f"initial_state[{missing[0]}] is None, but all states must be given. Give a tensor (batch, units) for "
                f"each of the {len(state)} states, or no initial_state to use the cell's own."
            )
        state = cast_floats(state, self._cell_dtype)
        if isinstance(self.cell, Cell):
            for place, (tensor, size) in enumerate(zip(state, self.state_size, strict=True)):
                check_shape(f"initial_state[{place}]", tensor, (batch_size, *axes(size)))
        return state

    def _to_run(self, values: Tensor) -> Tensor:
        """Return `(batch, time, ...)` as `(time, batch, ...)`, in the order of the run."""
        return swap_time(ops.flip(values, axis=1) if self.go_backwards else values)

    @property
    def _run(self) -> Callable[..., tuple]:
        """The function that takes all steps of the cell; time comes first."""
        # A cell of another precision than the layer's is called, so that Keras casts what it gets.
        known = isinstance(self.cell, Cell) and self.cell.compute_dtype == self.compute_dtype
        return self.cell.run if known else functools.partial(run_stepwise, self.cell)

    def _hold(self, output: Any, mask: Tensor, before: Any) -> Any:
        """Replace outputs before a row's first real step by the output `before` this call, or by zeros."""
        mask = ops.flip(mask, axis=1) if self.go_backwards else mask
        return hold_outputs(
            output,
            mask,
            before,
            zero_output_for_mask=self.zero_output_for_mask,
            return_sequences=self.return_sequences,
        )

    @contextlib.contextmanager
    def _keras_masks_of_one_call(self) -> Iterator[None]:
        """Have cells that store dropout masks themselves, Keras's, forget them at the end of this context."""
        try:
            yield
        finally:
            for layer in self._flatten_layers(include_self=False):
                if hasattr(layer, "reset_dropout_mask"):
                    layer.reset_dropout_mask()
                    layer.reset_recurrent_dropout_mask()

    @property
    def _cell_dtype(self) -> str:
        return getattr(self.cell, "compute_dtype", self.compute_dtype)

    def _uses_cudnn(self, mask: Tensor | None) -> bool:
        """Return whether Keras uses cuDNN here, or was told to. cuDNN supports only masks with padding at the end."""
        return (not self.supports_jit and mask is None) or getattr(self, "use_cudnn", False) is True

    def _step_spec(self, sequences: Any) -> tuple[Any, list]:
        """Return the shapes and dtypes of `(one step's output, state)`, as KerasTensors."""
        if isinstance(self.cell, Cell):
            sizes = [self.cell.output_size, *self.state_size]
            batch_size = tree.flatten(sequences)[0].shape[0]
            output, *state = (keras.KerasTensor((batch_size, *axes(size)), self.compute_dtype) for size in sizes)
            return output, state
        steps = tree.map_structure(lambda x: keras.KerasTensor((x.shape[0], *x.shape[2:]), x.dtype), sequences)
        spec = SymbolicStep(self.cell, self.get_initial_state).compute_output_spec(steps)
        return tree.map_structure(
            lambda x: keras.KerasTensor(x.shape, self.compute_dtype if is_float(x) else x.dtype), spec
        )

    def compute_output_spec(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the shapes and dtypes of the results of `call`."""
        output, state = self._step_spec(sequences)
        if self.return_sequences:
            time = tree.flatten(sequences)[0].shape[1]
            output = tree.map_structure(lambda x: keras.KerasTensor((x.shape[0], time, *x.shape[1:]), x.dtype), output)
        return (output, *state) if self.return_state else output

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """Return the shapes of the results of `call`."""
        spec = self.compute_output_spec(symbolic_sequences(sequences_shape, self.compute_dtype))
        return tree.map_structure(lambda x: x.shape, spec)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, or raise if the cell cannot be made again from its own."""
        check_config(self.cell)
        return {**super().get_config(), "jit_compile": self.jit_compile}

    def compute_mask(self, inputs: Any, mask: Any = None) -> Tensor | list | None:
        """Return the mask of the output sequences; states and last outputs have none."""
        given = [m for m in tree.flatten(mask) if m is not None]
        if not given or not self.return_sequences:
            return None
        output, state = self._step_spec(inputs)
        joint = functools.reduce(ops.logical_and, given)
        joint = ops.flip(joint, axis=1) if self.go_backwards else joint  # outputs are in the order in which steps ran
        masks = [joint] * len(tree.flatten(output))
        if self.return_state:
            masks += [None] * len(tree.flatten(state))
        return masks if len(masks) > 1 else masks[0]


def as_cell(given: Any, owner: str) -> Any:
    """Return a cell unchanged, and a list of kseq cells as one cell, or raise if it is neither."""
    cells = given if isinstance(given, list | tuple) else [given]
    for cell in cells:
        check_step(cell, owner)
        if isinstance(cell, Cell):
            cell.check_definition()
        if isinstance(cell.state_size, numbers.Integral) and not isinstance(cell.state_size, int):
            cell.state_size = int(cell.state_size)  # NumPy's, which Keras refuses
    ours = isinstance(given, list | tuple) and all(isinstance(cell, Cell) for cell in cells)
    return StackedCells(given) if ours else given
