"""The recurrent layer over any cell."""

import keras
from keras import ops, tree

from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.masking import check_mask, zero_padding
from kseq.recurrence import recurrence


@keras.saving.register_keras_serializable(package="kseq")
class RNN(keras.layers.RNN):
    """Runs a cell over time: `keras.layers.RNN` with its arguments, over kseq's engine.

    A `kseq.cells.Cell` goes through the engine: the input projection of all steps in one product, and backpropagation
    through time that stores only the states. Any other Keras cell, or list of cells, goes through Keras's loop.

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
        ValueError: If the mask's shape is not `(batch, time)`.

    Example:
        >>> kseq.layers.RNN(kseq.cells.GRUCell(16), return_sequences=True)(np.zeros((2, 10, 8))).shape
        (2, 10, 16)
    """

    def inner_loop(self, sequences: Tensor, initial_state: list, mask: Tensor | None, training: bool = False) -> tuple:
        """Return `(last output, outputs, final states)`; Keras's `call` does the rest."""
        mask = check_mask(tree.flatten(mask)[0] if tree.is_nested(mask) else mask, sequences)
        sequences = zero_padding(sequences, mask)
        cell = self.cell
        if self._uses_keras_kernel() or not (isinstance(cell, Cell) and cell.is_separable(bool(training))):
            return super().inner_loop(sequences, initial_state, mask=mask, training=training)

        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)
        time_mask = None if mask is None else ops.transpose(mask)  # (time, batch)
        outputs, states = recurrence(
            cell.equations(),
            cell.project(_swap_time(sequences), training=bool(training)),
            tuple(initial_state),
            tree.map_structure(ops.convert_to_tensor, cell.recurrent_weights),
            tuple(ops.convert_to_tensor(w) for w in cell.gate_weights),
            mask=time_mask,
            return_sequences=self.return_sequences,
            unroll=self.unroll,
            training=bool(training),
        )
        last = states[0]
        if mask is not None:
            last = ops.where(self._answers(mask)[:, -1, None], last, ops.zeros_like(last))
        if outputs is None:
            return last, last[:, None], list(states)
        outputs = _swap_time(outputs)  # (batch, time, units)
        if mask is not None:
            outputs = ops.where(self._answers(mask)[:, :, None], outputs, ops.zeros_like(outputs))
        return last, outputs, list(states)

    def _answers(self, mask: Tensor) -> Tensor:
        """Where outputs are not zero, bool `(batch, time)`: from the first real step on, or at real steps only."""
        return mask if self.zero_output_for_mask else ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0

    def _uses_keras_kernel(self) -> bool:
        """Whether Keras runs this layer by cuDNN (then it has switched XLA off for it), or was told to."""
        return not self.supports_jit or getattr(self, "use_cudnn", False) is True

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
