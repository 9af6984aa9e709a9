"""A recurrent layer with attention at each step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from kseq.attention import Attention, Memory
from kseq.attention.attention import NO_DRAWS, Draws
from kseq.attention.memory_checks import check_reads_memory
from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.cells.cell import axes
from kseq.cells.copies import check_config, in_precision
from kseq.inner_layers import freeze_inner_layers
from kseq.layers.rnn import as_cell
from kseq.layers.sequences import cast_floats, check_sequences, check_shape, joint_mask, swap_time
from kseq.layers.step_runner import compiles_steps, constants_of, memory_of, padded_source, run_steps
from kseq.linear import apply_dense
from kseq.masking import align_mask, implicit_mask, zero_padding
from kseq.numbers import flag, positive_int
from kseq.short_help import ShortHelp


class AttentionRNNState(NamedTuple):
    """The state of an `AttentionRNN`, rows first.

    Attributes:
        cell: A tuple of the cell's state tensors, `(rows, units)` each.
        attention: The attention of the step before, `(rows, attention size)`, zeros at first; `()` without input
            feeding.
        mechanisms: A tuple of the mechanisms' states; `()` for one without a state.
    """

    cell: tuple
    attention: Any
    mechanisms: tuple


@keras.saving.register_keras_serializable(package="kseq")
class AttentionRNN(keras.layers.Layer, metaclass=ShortHelp):
    """Runs a cell that attends at each step to one or several memories, such as the outputs of an encoder.

        output_t, s_t = cell([x_t; a_{t-1}], s_{t-1})      without input feeding: cell(x_t, s_{t-1})
        c_t = mechanism(output_t, memory)                  for each mechanism
        a_t = f(W [output_t; c_t])                         without attention layer: the c_t, concatenated

    It is what `tfa.seq2seq.AttentionWrapper` was, as a layer instead of a cell. The memories are inputs of the call and
    not part of the layer, so models with it can be saved and exported.

    Whole sequences equal the method `step`, one step with an explicit state, which strategies of `kseq.decoding` can
    call. Padding, in the inputs or in a memory, never changes a result. At padded steps the state is held.

    Args:
        cell: A cell of `kseq.cells` or Keras, or a list of cells to stack. Those of `kseq.cells` are trained faster.
        mechanisms: A mechanism of `kseq.attention`, or a list of mechanisms.
        input_feeding: Whether the attention a is part of the next step's input.
        attention_layer_size: Size of a; None for no attention layer. A list has the size of an attention layer for each
            mechanism, whose results are concatenated, as in TensorFlow Addons.
        attention_activation: Activation f of the attention layers, such as "tanh" (Luong et al. 2015); None for none.
        output_attention: Whether the layer returns the attention a; if not, the cell's output.
        return_sequences: Whether to return the outputs of all steps, or only the last.
        return_state: Whether to return the final state, too.
        alignment_history: Whether to return the weights of all steps, too.
        **kwargs: Arguments of `keras.layers.Layer`. The `dtype` is also that of cell and mechanisms: in place of one
            that has Keras's default precision, and no weights yet, the layer has a copy in its own precision.

    Call arguments:
        inputs: Float `(batch, time, features)`.
        memories: Float `(batch, source time, dim)`; or a list with one for each mechanism.
        initial_state: An `AttentionRNNState`, or a list of the cell's state tensors; by default the cell's initial
            state.
        mask: Bool `(batch, time)`, True at the real steps of the inputs; by default their implicit Keras mask.
        memory_masks: Bool `(batch, source time)`, or a list with one for each mechanism; by default the memories'
            implicit Keras masks.
        training: Whether dropout is on, and what else cell and mechanisms do in training alone.

    Returns:
        The outputs `(batch, time, units)` with `return_sequences`, else that of the last real step `(batch, units)`.
        With `return_state`, then the `AttentionRNNState`. With `alignment_history`, then the weights `(batch, time,
        source time)`, a list of them if the layer was given a list of mechanisms; zero at padded steps.

    Raises:
        ValueError: If the number of memories, masks or sizes is not that of the mechanisms, if a mask or an initial
            state has a wrong shape, or if an option is out of range.

    Example:
        >>> layer = kseq.layers.AttentionRNN(
        ...     kseq.cells.LSTMCell(16), kseq.attention.AdditiveAttention(16), attention_layer_size=16,
        ...     return_sequences=True)
        >>> layer(np.zeros((2, 5, 8)), np.zeros((2, 7, 12))).shape
        (2, 5, 16)

    References:
        - D. Bahdanau, K. Cho, Y. Bengio, "Neural machine translation by jointly learning to align and translate", 2015.
        - M.-T. Luong, H. Pham, C. Manning, "Effective approaches to attention-based neural machine translation", 2015.
    """

    def __init__(
        self,
        cell: Any,
        mechanisms: Attention | Sequence[Attention],
        *,
        input_feeding: bool = True,
        attention_layer_size: int | Sequence[int] | None = None,
        attention_activation: Any = None,
        output_attention: bool = True,
        return_sequences: bool = False,
        return_state: bool = False,
        alignment_history: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.cell: Any = in_precision(as_cell(cell, type(self).__name__), self.dtype_policy)
        self.several = isinstance(mechanisms, list | tuple)
        given = list(mechanisms) if self.several else [mechanisms]
        self.mechanisms: list = [in_precision(each, self.dtype_policy) for each in given]
        self.input_feeding, self.output_attention = flag("input_feeding", input_feeding), bool(output_attention)
        self.attention_activation = keras.activations.get(attention_activation)
        self.return_sequences, self.return_state = bool(return_sequences), bool(return_state)
        self.alignment_history = bool(alignment_history)
        self.attention_layer_size = _sizes(self, attention_layer_size)
        _check_mechanisms(self)
        sizes = self.attention_layer_size
        self.attention_layers = [
            keras.layers.Dense(size, use_bias=False, activation=self.attention_activation, dtype=self.dtype_policy)
            for size in (sizes if isinstance(sizes, list) else [sizes] if sizes else [])
        ]
        self.supports_masking = True
        freeze_inner_layers(self)

    def build(self, inputs_shape: tuple, memories_shape: Any) -> None:
        """Create the weights for inputs `(batch, time, features)` and memories `(batch, source time, dim)`."""
        shapes = _one_for_each(memories_shape, self.mechanisms, "memories", is_leaf=_is_shape)
        units = self.cell.output_size
        self._context_dims = [
            mechanism.compute_output_shape((None, units), tuple(shape))[0][-1]
            for mechanism, shape in zip(self.mechanisms, shapes, strict=True)
        ]
        features = inputs_shape[-1] + (self.attention_size if self.input_feeding else 0)
        if hasattr(self.cell, "build") and not getattr(self.cell, "built", False):
            self.cell.build((inputs_shape[0], features))
        for mechanism, shape in zip(self.mechanisms, shapes, strict=True):
            if not mechanism.built:
                with keras.name_scope(mechanism.name, caller=mechanism):
                    mechanism.build((None, units), tuple(shape))
        context = [sum(self._context_dims)] if not isinstance(self.attention_layer_size, list) else self._context_dims
        for layer, width in zip(self.attention_layers, context, strict=False):
            layer.build((None, units + width))

    @property
    def attention_size(self) -> int:
        """Size of the attention a; known once the layer is built."""
        return sum(layer.units for layer in self.attention_layers) or sum(self._context_dims)

    def memory(self, memories: Any, memory_masks: Any = None) -> tuple[Memory, ...]:
        """Prepare the memories for `step`, once per source; arguments as in the call."""
        values = _one_for_each(memories, self.mechanisms, "memories")
        masks = _one_for_each(memory_masks, self.mechanisms, "memory_masks")
        masks = [implicit_mask(x) if mask is None else mask for x, mask in zip(values, masks, strict=True)]
        return tuple(each.memory(x, mask) for each, x, mask in zip(self.mechanisms, values, masks, strict=True))

    def initial_state(
        self, batch: int | Tensor, memory: tuple[Memory, ...], cell_state: Any = None
    ) -> AttentionRNNState:
        """Return the state before the first step.

        Args:
            batch: Number of rows.
            memory: What `memory` returned.
            cell_state: The cell's state tensors; by default the cell's initial state.
        """
        if cell_state is None:
            cell_state = self.cell.get_initial_state(batch_size=batch)
        cell_state = cell_state if tree.is_nested(cell_state) else [cell_state]
        sizes = self.cell.state_size if isinstance(self.cell.state_size, list | tuple) else [self.cell.state_size]
        cells = tuple(cast_floats(list(cell_state), getattr(self.cell, "compute_dtype", self.compute_dtype)))
        if len(cells) != len(sizes):
            raise ValueError(f"initial_state has {len(cells)} tensors, but the cell has {len(sizes)} states.")
        for place, (tensor, size) in enumerate(zip(cells, sizes, strict=True)):
            check_shape(f"initial_state[{place}]", tensor, (batch, *axes(size)))
        attention = ops.zeros((batch, self.attention_size), dtype=self.compute_dtype) if self.input_feeding else ()
        states = [
            mechanism.initial_state(batch, ops.shape(each.values)[-2])
            for mechanism, each in zip(self.mechanisms, memory, strict=True)
        ]
        return AttentionRNNState(cells, attention, tuple(states))

    def step(
        self,
        inputs: Tensor,
        state: AttentionRNNState,
        memory: tuple[Memory, ...],
        *,
        training: bool = False,
        draws: Sequence[Draws] | None = None,
    ) -> tuple[Tensor, AttentionRNNState, list[Tensor]]:
        """Take one step with an explicit state.

        Args:
            inputs: `(rows, features)`; rows = batch, or batch x hypotheses.
            state: Tensors `(rows, ...)`.
            memory: What `memory` returned, batch first.
            training: As in the call; but random numbers of the mechanisms are those in `draws`.
            draws: What `Attention.draw` returned, of this step, for each mechanism.

        Returns:
            The output `(rows, units)`, the new state, and the weights `(rows, source time)` of each mechanism.
        """
        state = AttentionRNNState(*state)
        inputs = ops.cast(inputs, self.compute_dtype)
        fed = ops.concatenate([inputs, state.attention], axis=-1) if self.input_feeding else inputs
        options = {"training": training} if self._cell_takes_training else {}
        output, cells = self.cell(fed, list(state.cell), **options)
        cells = cells if tree.is_nested(cells) else [cells]
        contexts, weights, states = [], [], []
        given = [NO_DRAWS] * len(self.mechanisms) if draws is None else draws
        for mechanism, each, before, own in zip(self.mechanisms, memory, state.mechanisms, given, strict=True):
            context, aligned, after = mechanism.step(
                output, Memory(*each), before, training=training, draws=Draws(*own)
            )
            contexts.append(context)
            weights.append(aligned)
            states.append(after)
        attention, output = (ops.cast(x, self.compute_dtype) for x in (self._attention(output, contexts), output))
        new = AttentionRNNState(tuple(cells), attention if self.input_feeding else (), tuple(states))
        return attention if self.output_attention else output, new, weights

    @property
    def _cell_takes_training(self) -> bool:
        return isinstance(self.cell, Cell) or getattr(self.cell, "_call_has_training_arg", False)

    def _attention(self, output: Tensor, contexts: list[Tensor]) -> Tensor:
        """Return the attention a for a cell's output and the contexts, `(rows, ...)` each."""
        if not self.attention_layers:
            return ops.concatenate(contexts, axis=-1) if len(contexts) > 1 else contexts[0]
        inputs = [[each] for each in contexts] if isinstance(self.attention_layer_size, list) else [contexts]
        parts = [
            apply_dense(layer, ops.concatenate([output, *each], axis=-1))
            for layer, each in zip(self.attention_layers, inputs, strict=True)
        ]
        return ops.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]

    def call(
        self,
        inputs: Tensor,
        memories: Any,
        initial_state: Any = None,
        mask: Tensor | None = None,
        memory_masks: Any = None,
        training: bool | None = False,
    ) -> Any:
        """Run all steps; see the class for arguments and results."""
        check_sequences(inputs, type(self).__name__, features=True)
        training, mask = bool(training), joint_mask(mask, inputs)
        compiles = compiles_steps(self, [inputs, *tree.flatten(memories)])
        memory, cut = self._memory_of_call(memories, memory_masks, compiles)
        batch, time = ops.shape(inputs)[:2]
        state = self._first_state(initial_state, batch, memory)
        draws = [
            each.draw(batch, time, ops.shape(own.values)[-2], training)
            for each, own in zip(self.mechanisms, memory, strict=True)
        ]
        size = self.attention_size if self.output_attention else self.cell.output_size
        held = ops.zeros((batch, size), dtype=self.compute_dtype)
        sequences = tree.map_structure(swap_time, (zero_padding(inputs, mask), draws, () if mask is None else mask))
        constants = tuple(map(constants_of, memory))

        def take(carry: tuple, at: tuple, constants: tuple) -> tuple:
            (state, held), (inputs, draws, real) = carry, at
            draws = tree.map_structure(lambda x: x[:, None], draws)  # of one hypothesis
            given = tuple(map(memory_of, constants))
            output, new, weights = self.step(inputs, state, given, training=training, draws=draws)
            new = AttentionRNNState(*tree.pack_sequence_as(state, tree.flatten(new)))
            if not isinstance(real, tuple):
                output, new = _where(real, (output, new), (held, state))
            shown = (output if self.return_sequences else (), weights if self.alignment_history else ())
            return (new, output), shown

        (state, last), (outputs, weights) = run_steps(
            self, take, (state, held), sequences, constants, training=training, compiles=compiles
        )
        results = [swap_time(outputs) if self.return_sequences else last]
        results += [state] if self.return_state else []
        if self.alignment_history:
            shown = [zero_padding(swap_time(x), mask)[..., :end] for x, end in zip(weights, cut, strict=True)]
            results.append(shown if self.several else shown[0])
        return tuple(results) if len(results) > 1 else results[0]

    def _memory_of_call(self, memories: Any, masks: Any, compiles: bool) -> tuple[tuple[Memory, ...], list]:
        """Return the prepared memories, padded for a compiled loop, and their numbers of steps."""
        values = _one_for_each(memories, self.mechanisms, "memories")
        masks = _one_for_each(masks, self.mechanisms, "memory_masks")
        masks = [implicit_mask(x) if mask is None else mask for x, mask in zip(values, masks, strict=True)]
        cut = [ops.shape(x)[1] for x in values]
        if compiles:
            padded = [padded_source(x, mask) for x, mask in zip(values, masks, strict=True)]
            values, masks = map(list, zip(*padded, strict=True))
        return self.memory(values, masks), cut

    def _first_state(self, given: Any, batch: Any, memory: tuple[Memory, ...]) -> AttentionRNNState:
        """Return the state in which a call starts."""
        if given is None or not (isinstance(given, AttentionRNNState) or _is_whole_state(given)):
            return self.initial_state(batch, memory, given)
        given = AttentionRNNState(*given)
        start = self.initial_state(batch, memory, list(given.cell))
        leaves = [ops.cast(x, like.dtype) for x, like in zip(tree.flatten(given), tree.flatten(start), strict=True)]
        return tree.pack_sequence_as(start, leaves)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Tensor | None:
        """Return the mask of the output sequences; other results have none."""
        given = [each for each in tree.flatten(mask) if each is not None]
        return given[0] if given and self.return_sequences else None

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        check_config(self.cell)
        mechanisms = [keras.saving.serialize_keras_object(each) for each in self.mechanisms]
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "mechanisms": mechanisms if self.several else mechanisms[0],
            "input_feeding": self.input_feeding,
            "attention_layer_size": self.attention_layer_size,
            "attention_activation": keras.activations.serialize(self.attention_activation),
            "output_attention": self.output_attention,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "alignment_history": self.alignment_history,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "AttentionRNN":
        """Create a layer from the result of `get_config`."""
        cell = keras.saving.deserialize_keras_object(config["cell"], custom_objects)
        given = config["mechanisms"]
        made = [keras.saving.deserialize_keras_object(each) for each in (given if isinstance(given, list) else [given])]
        return cls(**{**config, "cell": cell, "mechanisms": made if isinstance(given, list) else made[0]})


def _sizes(layer: AttentionRNN, given: Any) -> Any:
    """Return the option `attention_layer_size` as None, an int or a list of ints."""
    if given is None:
        return None
    if isinstance(given, list | tuple):
        return [positive_int(layer, "attention_layer_size", size) for size in given]
    return positive_int(layer, "attention_layer_size", given)


def _check_mechanisms(layer: AttentionRNN) -> None:
    for mechanism in layer.mechanisms:
        if not isinstance(mechanism, Attention):
            raise ValueError(
                f"AttentionRNN takes mechanisms of kseq.attention, such as AdditiveAttention(16), not {mechanism!r}."
            )
        check_reads_memory(mechanism, type(layer).__name__)
    if not layer.mechanisms:
        raise ValueError("AttentionRNN got an empty list of mechanisms. kseq.layers.RNN runs a cell without attention.")
    sizes = layer.attention_layer_size
    if isinstance(sizes, list) and len(sizes) != len(layer.mechanisms):
        raise ValueError(f"attention_layer_size={sizes}, but there are {len(layer.mechanisms)} mechanisms.")
    if sizes is None and layer.attention_activation is not keras.activations.linear:
        raise ValueError("attention_activation is that of the attention layer. Give its attention_layer_size.")


def _is_shape(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(size is None or isinstance(size, int) for size in value)


def _one_for_each(given: Any, mechanisms: list, name: str, is_leaf: Any = None) -> list:
    """Return a list with a value for each mechanism, or raise ValueError; one value is that of all mechanisms."""
    if not isinstance(given, list | tuple) or (is_leaf is not None and is_leaf(given)):
        return [given] * len(mechanisms)
    if len(given) != len(mechanisms):
        raise ValueError(
            f"AttentionRNN got {len(given)} {name} for {len(mechanisms)} mechanisms. Give one for each, or one for all."
        )
    return list(given)


def _is_whole_state(given: Any) -> bool:
    """Return whether a nest, which a loaded model may pass as plain tuples, is an `AttentionRNNState`."""
    return isinstance(given, list | tuple) and len(given) == 3 and isinstance(given[0], list | tuple)


def _where(mask: Tensor, real: Any, padding: Any) -> Any:
    """Return `real` in rows where `mask`, bool `(rows,)`, is True, else `padding`, nests of `(rows, ...)`."""
    return tree.map_structure(lambda a, b: ops.where(align_mask(mask, a), a, b), real, padding)
