"""Signatures for a single decoding step, whose state is part of requests and answers."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kseq.decoding.checks import log_probabilities_of, read_step
from kseq.export.row_errors import ERROR, add_error, blank_rows
from kseq.models.inputs.source_inputs import source_of

START, STEP = "serving_start", "serving_step"


class StepSignatures:
    """The signatures `serving_start` and `serving_step` of a model, for clients that run the decoding loop themselves.

    The server stores nothing between requests. `serving_start` answers a source with the model's initial state and its
    memory. `serving_step` takes the state, the memory and the previous tokens, and answers with the log-probabilities
    of the next token and the new state. The tensors of the state are `state_0`, `state_1`, ..., those of the memory
    `memory_0`, `memory_1`, ...

    `serving_step`:

    - inputs: `tokens` int32 `(rows,)`, the previous token of each hypothesis, at first the begin token; `state_i`
      `(rows, ...)`; `memory_i` `(batch, ...)`. There are batch x hypotheses rows, those of one source side by side. A
      client with several hypotheses per source repeats each row of the initial state, and reorders the rows of later
      states like the hypotheses; the memory stays as it is.
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

    def start(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return the tensors of the initial state and of the memory by name."""
        state, memory = self.model.encode(*source_of(self.model).of_request(inputs))
        self.structure = keras.tree.map_structure(lambda tensor: tensor.name, (state, memory))
        return {**_named("state", state), **_named("memory", memory)}

    def step_function(self, start: Any) -> Callable:
        """Return the step as a `tf.function` for the outputs of `start`, a concrete function of the method `start`."""
        specs = [
            tf.TensorSpec([None, *value.shape[1:]], value.dtype, name=name)
            for name, value in start.structured_outputs.items()
            if name != ERROR
        ]
        last = getattr(self.model, "num_target_ids", self.model.target_vocabulary_size) - 1

        def step(tokens: tf.Tensor, *leaves: tf.Tensor) -> dict[str, tf.Tensor]:
            state, memory = keras.tree.pack_sequence_as(self.structure, leaves)
            wrong = (tokens < 0) | (tokens > last)
            text = f", but the ids of the model's target vocabulary are 0 to {last}."
            errors = add_error(tf.fill(tf.shape(tokens), ""), wrong, "tokens is ", tokens, text)
            output = read_step(self.model.step(tf.where(wrong, 0, tokens), state, memory))
            log_probabilities = log_probabilities_of(output)
            alignments = {} if output.alignments is None else {"alignments": output.alignments}
            outputs = {"log_probabilities": log_probabilities, **_named("state", output.state), **alignments}
            return blank_rows(outputs, errors, {})

        signature = [tf.TensorSpec([None], tf.int32, name="tokens"), *_in_order(specs, self.structure)]
        return tf.function(step, autograph=False, input_signature=signature)


def _named(name: str, nest: Any) -> dict[str, tf.Tensor]:
    return {f"{name}_{index}": leaf for index, leaf in enumerate(keras.tree.flatten(nest))}


def _in_order(specs: list[tf.TensorSpec], structure: Any) -> list[tf.TensorSpec]:
    """Return the specs in the order of the structure's leaves; a function's outputs are sorted by name."""
    by_name = {spec.name: spec for spec in specs}
    state, memory = structure
    return [by_name[name] for name in (*_named("state", state), *_named("memory", memory))]
