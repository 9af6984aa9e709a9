"""The recurrent layer over any cell."""

import keras
from keras import ops, tree

from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.masking import check_mask, zero_padding


@keras.saving.register_keras_serializable(package="kseq")
class RNN(keras.layers.RNN):
    """Runs a cell over time: `keras.layers.RNN` with its arguments, over kseq's engine.

    A `kseq.cells.Cell` goes through the engine: the input projection of all steps in one product, and backpropagation
    through time that stores only the states. Any other Keras cell, or list of cells, goes through Keras's loop, and so
    does a cell of another precision than the layer's.

    Padding (steps whose mask is False) holds the state and never changes an answer: NaN there leaves outputs and
    gradients as they were. A row without any real step returns its initial state, and zeros as its output.

    Args:
        cell: A cell, or a list of cells which are stacked.
        **kwargs: `return_sequences`, `return_state`, `go_backwards`, `stateful`, `unroll`, `zero_output_for_mask`, as
            in Keras.

    Call arguments:
        sequences: Float `(batch, time, features)`.
        initial_state: List of tensors `(batch, units)`, one for each of the cell's states; zeros if not given.
        mask: Bool `(batch, time)`, True at the real steps.
        training: Whether dropout is on.

    Returns:
        The outputs `(batch, time, units)` with `return_sequences`, else the last real step's `(batch, units)`; with
        `return_state` a tuple of it and the final states.

    Raises:
        ValueError: If the mask's shape is not `(batch, time)`, or `initial_state` has not a tensor for each state.

    Example:
        >>> kseq.layers.RNN(kseq.cells.GRUCell(16), return_sequences=True)(np.zeros((2, 10, 8))).shape
        (2, 10, 16)
    """

    def inner_loop(self, sequences: Tensor, initial_state: list, mask: Tensor | None, training: bool = False) -> tuple:
        """Return `(last output, outputs, final states)`; Keras's `call` does the rest."""
        mask = check_mask(tree.flatten(mask)[0] if tree.is_nested(mask) else mask, sequences)
        sequences, training = zero_padding(sequences, mask), bool(training)
        if len(initial_state) != len(self.state_size):
            raise ValueError(
                f"initial_state has {len(initial_state)} tensors, but {type(self.cell).__name__} has "
                f"{len(self.state_size)} states. Give one tensor (batch, units) for each."
            )
        if self._uses_cudnn(mask):
            return super().inner_loop(sequences, initial_state, mask=mask, training=training)
        if self._uses_engine(training):
            last, outputs, states = self._run_cell(sequences, initial_state, mask, training)
        else:
            last, outputs, states = keras.layers.RNN.inner_loop(self, sequences, initial_state, mask, training)
        if mask is not None:
            answers = self._answers(ops.flip(mask, axis=1) if self.go_backwards else mask)
            last = zero_padding(last, answers[:, -1])
            outputs = zero_padding(outputs, answers if self.return_sequences else answers[:, -1:])
        return last, outputs, states

    def _run_cell(self, sequences: Tensor, initial_state: list, mask: Tensor | None, training: bool) -> tuple:
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)
        outputs, states = self.cell.run(
            _swap_time(sequences),
            tuple(initial_state),
            None if mask is None else ops.transpose(mask),  # (time, batch)
            return_sequences=self.return_sequences,
            unroll=self.unroll,
            training=training,
        )
        if not self.return_sequences:
            return outputs, outputs[:, None], list(states)
        return outputs[-1], _swap_time(outputs), list(states)

    def _answers(self, mask: Tensor) -> Tensor:
        """Where outputs are not zero, bool `(batch, time)`: from the first real step on, or at real steps only."""
        return mask if self.zero_output_for_mask else ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0

    def _uses_engine(self, training: bool) -> bool:
        """Whether the cell can be taken apart, and computes in the layer's precision."""
        cell = self.cell
        return isinstance(cell, Cell) and cell.is_separable(training) and cell.compute_dtype == self.compute_dtype

    def _uses_cudnn(self, mask: Tensor | None) -> bool:
        """Whether Keras runs this layer by cuDNN, or was told to. cuDNN knows no masks but of padding at the end."""
        return (not self.supports_jit and mask is None) or getattr(self, "use_cudnn", False) is True

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | list | None:
        """Pass the mask on with sequences; states and last outputs have none."""
        del inputs
        mask = tree.flatten(mask)[0] if tree.is_nested(mask) else mask
        output_mask = mask if self.return_sequences else None
        return [output_mask, *(None for _ in self.state_size)] if self.return_state else output_mask


def adopt(keras_cell: keras.layers.Layer, cell_class: type[Cell]) -> None:
    """Turn the cell that Keras's constructor made into kseq's.

    A kseq cell is its Keras class plus methods: it has the same attributes and weights, so the class is all there is to
    change, and nothing of Keras's long constructors is said twice.
    """
    keras_cell.__class__ = cell_class


def _swap_time(values: Tensor) -> Tensor:
    """`(batch, time, ...)` to `(time, batch, ...)` and back."""
    return ops.transpose(values, (1, 0, *range(2, len(values.shape))))
