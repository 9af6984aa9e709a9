"""Signatures for a single decoding step, whose state is part of requests and answers."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from kseq.decoding.checks import log_probabilities_of, read_step
from kseq.export.row_counts import check_rows
from kseq.export.row_errors import ERROR, RowErrors, blank_rows
from kseq.models.inputs.source_inputs import source_of

START, STEP = "serving_start", "serving_step"
PARTS = ("state", "memory")
PADDED = ". A server must not pad states to batch requests: start it without batching, or without padding."


class StepSignatures:
    """The signatures `serving_start` and `serving_step` of a model, for clients that run the decoding loop themselves.

    The server stores nothing between requests. `serving_start` answers a source with the model's initial state and its
    memory. `serving_step` takes the state, the memory and the previous tokens, and answers with the log-probabilities
    of the next token and the new state. The tensors of the state are `state_0`, `state_1`, ..., those of the memory
    `memory_0`, `memory_1`, ... The last one of each may hold the sizes of the others, int32 `(rows, n)`, by which
    `serving_step` notices that a server has padded states of several requests to put them into one batch.

    `serving_step`:

    - inputs: `tokens` int32 `(rows,)`, the previous token of each hypothesis, at first the begin token; `state_i`
      `(rows, ...)`; `memory_i` `(batch, ...)`. There are batch x hypotheses rows, those of one source side by side. A
      client with several hypotheses per source repeats each row of the initial state, and reorders the rows of later
      states like the hypotheses; the memory stays as it is.
      A request fails if the tokens and the state have different numbers of rows, or the memory has a number that does
      not divide theirs.
    - outputs: `log_probabilities` float32 `(rows, vocabulary)`; `state_i` for the next request; with attention also
      `alignments` float32 `(rows, source time)`, over the source padded to its bucket; `error` string `(rows,)`, empty
      where all is well. A row with an error, or after one, has NaN in all floats.

    Args:
        model: Has `encode(source, lengths) -> (state, memory)`, or `encode(source)` if it has a `source_shape`,
            `step(tokens, state, memory)` and `target_vocabulary_size`, as a `kseq.models.Seq2Seq` does.
    """

    def __init__(self, model: Any):
        self.model = model
        self.structure: Any = None
        self.axes: dict[str, list[tuple[int, int]]] = {}

    def start(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return the tensors of the initial state and of the memory by name."""
        parts = dict(zip(PARTS, self.model.encode(*source_of(self.model).of_request(inputs)), strict=True))
        self.structure = keras.tree.map_structure(lambda tensor: tensor.name, tuple(parts.values()))
        self.axes = {part: _open_axes(keras.tree.flatten(nest)) for part, nest in parts.items()}
        return {name: leaf for part, nest in parts.items() for name, leaf in self._named(part, nest).items()}

    def step_function(self, start: Any) -> Callable:
        """Return the step as a `tf.function` for the outputs of `start`, a concrete function of the method `start`."""
        given = {name: value for name, value in start.structured_outputs.items() if name != ERROR}
        names = sorted(given, key=lambda name: (PARTS.index(name.split("_")[0]), int(name.split("_")[1])))
        specs = [tf.TensorSpec([None, *given[name].shape[1:]], given[name].dtype, name=name) for name in names]
        last = getattr(self.model, "num_target_ids", self.model.target_vocabulary_size) - 1

        def step(tokens: tf.Tensor, *leaves: tf.Tensor) -> dict[str, tf.Tensor]:
            by_name = dict(zip(names, leaves, strict=True))
            tokens, by_name = _with_rows_of_hypotheses(tokens, by_name)
            found = RowErrors(tf.fill(tf.shape(tokens), ""))
            wrong = (tokens < 0) | (tokens > last)
            text = f", but the ids of the model's target vocabulary are 0 to {last}."
            found.add(wrong, lambda: ["tokens is ", tokens, text])
            nests = []
            for part, nest in zip(PARTS, self.structure, strict=True):
                own = [by_name[f"{part}_{index}"] for index in range(len(keras.tree.flatten(nest)))]
                nests.append(keras.tree.pack_sequence_as(nest, own))
                if self.axes[part]:
                    self._check_sizes(part, own, by_name[f"{part}_{len(own)}"], found)
            output = read_step(self.model.step(tf.where(wrong, 0, tokens), *nests))
            log_probabilities = log_probabilities_of(output)
            alignments = {} if output.alignments is None else {"alignments": output.alignments}
            outputs = {"log_probabilities": log_probabilities, **self._named("state", output.state), **alignments}
            return blank_rows(outputs, found.texts(), {})

        signature = [tf.TensorSpec([None], tf.int32, name="tokens"), *specs]
        return tf.function(step, autograph=False, input_signature=signature)

    def _named(self, part: str, nest: Any) -> dict[str, tf.Tensor]:
        """Return the tensors of a state or memory by name, and their sizes if these are not known beforehand."""
        leaves = keras.tree.flatten(nest)
        named = {f"{part}_{index}": leaf for index, leaf in enumerate(leaves)}
        if self.axes[part]:
            sizes = [tf.shape(leaves[index])[axis] for index, axis in self.axes[part]]
            named[f"{part}_{len(leaves)}"] = tf.tile(tf.stack(sizes)[None], tf.stack([tf.shape(leaves[0])[0], 1]))
        return named

    def _check_sizes(self, part: str, leaves: list[tf.Tensor], sizes: tf.Tensor, found: RowErrors) -> None:
        """Refuse the rows whose tensors have other sizes than when they were made, int32 `(rows, n)`.

        The sizes of a row that was refused before are 0; it has NaN in its state.
        """
        hypotheses = tf.shape(found.bad)[0] // tf.maximum(tf.shape(sizes)[0], 1)
        sizes = tf.repeat(sizes, hypotheses, axis=0)  # (hypotheses, n)
        for place, (index, axis) in enumerate(self.axes[part]):
            made, now = sizes[:, place], tf.shape(leaves[index])[axis]
            given = [f"{part}_{index} has ", tf.fill(tf.shape(made), now), " steps, but it was made with ", made]
            found.add((made != now) & (made != 0), lambda given=given: [*given, PADDED])


def _open_axes(leaves: list[tf.Tensor]) -> list[tuple[int, int]]:
    """Return the axes, after the first, whose sizes are only known in a request: (place of the tensor, axis)."""
    return [
        (index, axis)
        for index, leaf in enumerate(leaves)
        for axis, size in enumerate(leaf.shape)
        if axis and size is None
    ]


def _with_rows_of_hypotheses(
    tokens: tf.Tensor, by_name: Mapping[str, tf.Tensor]
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Fail the request if the rows of its tensors cannot belong together; see `StepSignatures`."""
    state = {name: of for name, of in by_name.items() if name.startswith("state_")}
    memory = {name: of for name, of in by_name.items() if name not in state}
    checked = check_rows({"tokens": tokens, **state})
    if not memory:
        return checked.pop("tokens"), checked
    memory = check_rows(memory)
    first = next(iter(memory))
    rows, sources = tf.shape(checked["tokens"])[0], tf.shape(memory[first])[0]
    multiple = sources * (rows // tf.maximum(sources, 1))
    text = f"The rows of tokens must be a multiple of the rows of {first}, but they are"
    with tf.control_dependencies([tf.debugging.Assert(rows == multiple, [text, rows, sources])]):
        # The reshaping fails as well, where a server strips graphs of assertions.
        tokens = tf.reshape(checked.pop("tokens"), [multiple])
        return tokens, {name: tf.identity(tensor) for name, tensor in {**checked, **memory}.items()}
