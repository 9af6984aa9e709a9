"""The functions behind the signatures of an exported model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kseq.export.options import ExportOptions
from kseq.export.padding import TooLong, check_ids, in_batches, pad_to_bucket
from kseq.export.step_signatures import START, STEP, StepSignatures
from kseq.export.text_outputs import TextOutputs
from kseq.models.export_contract import Serving

Endpoint = Callable[..., dict[str, tf.Tensor]]


@dataclass(frozen=True)
class Endpoints:
    """Builds the functions from a request, text or sequences, to the answer.

    Attributes:
        serving: The model's inputs and the function that answers them.
        source: Tokenizer of the inputs, limited to the largest bucket (see `limit_rows`), or None.
        target: Tokenizer of the outputs, or None.
        buckets: Increasing lengths, in tokens or frames.
        batch_sizes: Increasing batch sizes of the compiled signature.
        options: The options of the export.
    """

    serving: Serving
    source: Any
    target: Any
    buckets: Sequence[int]
    batch_sizes: Sequence[int]
    options: ExportOptions

    def functions(self, model: Any) -> dict[str, Any]:
        """Return a traced `tf.function` for each signature of `model`, by the signature's name."""
        inputs = self.serving.inputs
        steps = [
            tf.TensorSpec([None, None, *inputs.step_shape], inputs.dtype, name=inputs.name),
            tf.TensorSpec([None], tf.int32, name="lengths"),
        ]
        seed = [tf.TensorSpec([None], tf.int64, name="seed")] if self.options.seed_input else []
        requests = steps if self.source is None else [tf.TensorSpec([None], tf.string, name="text")]
        compiled = tf.function(self.serving.answer, jit_compile=True, autograph=False, input_signature=[*steps, *seed])
        answers = {
            "serving_default": self.serving.answer,
            "serving_xla": lambda *tensors: in_batches(compiled, *tensors, batch_sizes=self.batch_sizes),
        }
        texts = TextOutputs(self.source, self.target, self.options.replace_unknown, self.options.alignments)
        functions = {
            name: _traced(self._endpoint(answer, texts), [*requests, *seed]) for name, answer in answers.items()
        }
        if self.options.one_step:
            signatures = StepSignatures(model)
            start = self._endpoint(signatures.start, TextOutputs(self.source))
            functions[START] = _traced(start, requests)
            functions[STEP] = signatures.step_function(functions[START].get_concrete_function())
        return functions

    def _endpoint(self, answer: Endpoint, texts: TextOutputs) -> Endpoint:
        """Return a function that pads a request to a bucket, answers it, and adds texts to the answer."""
        inputs = self.serving.inputs

        def padded(steps: tf.Tensor, lengths: tf.Tensor, *seed: tf.Tensor) -> dict[str, tf.Tensor]:
            steps, lengths = pad_to_bucket(steps, lengths, self.buckets, inputs.pad_value, self.options.too_long)
            if self.source is None and inputs.vocabulary_size is not None:
                steps = check_ids(steps, inputs.vocabulary_size)
            return answer(steps, lengths, *seed)

        def from_text(text: tf.Tensor, *seed: tf.Tensor) -> dict[str, tf.Tensor]:
            return texts.add_to(padded(*self.source(text), *seed), text)

        def from_steps(steps: tf.Tensor, lengths: tf.Tensor, *seed: tf.Tensor) -> dict[str, tf.Tensor]:
            return texts.add_to(padded(steps, lengths, *seed), None)

        return from_steps if self.source is None else from_text


def limit_rows(tokenizer: Any, largest: int, too_long: TooLong) -> Any:
    """Return the tokenizer with its rows limited to the largest bucket.

    The limit applies before padding, so that one long text does not widen the whole batch.
    """
    config = tokenizer.get_config()
    if config["max_length"] is not None and config["max_length"] <= largest:
        return tokenizer
    truncation = "error" if "error" in (too_long, config["truncation"]) else config["truncation"]
    return type(tokenizer).from_config({**config, "max_length": largest, "truncation": truncation})


def _traced(endpoint: Endpoint, signature: list[tf.TensorSpec]) -> Any:
    """Return a function that calls the traced endpoint: saving traces a function again, which would take seconds."""
    traced = tf.function(endpoint, autograph=False, input_signature=signature).get_concrete_function()
    function = tf.function(lambda *inputs: traced(*inputs), autograph=False, input_signature=signature)
    function.get_concrete_function()
    return function
