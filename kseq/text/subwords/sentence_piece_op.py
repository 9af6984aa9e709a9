"""SentencePiece's operation of tensorflow-text, with a model that stays while the process runs."""

import functools
import hashlib
import importlib
from typing import Any

import tensorflow as tf

from kseq.text.offsets import Offsets
from kseq.text.ragged import ragged_rows
from kseq.text.text_ops import text_ops


class SentencePieceOp(tf.saved_model.experimental.TrackableResource):
    """Splits texts into the pieces of a model.

    The resource of `tensorflow_text.SentencepieceTokenizer` belongs to a kernel that TensorFlow caches, and is gone
    when it clears that cache, as `keras.utils.set_random_seed` does (a defect of tensorflow-text 2.21, b/318839908 in
    its source). Here it has a name, the model's digest, so it stays, and equal models share it.

    Args:
        model: The content of a `.model` file.

    Raises:
        ValueError: If tensorflow-text cannot read the model.
        ImportError: If tensorflow-text cannot be imported.
    """

    def __init__(self, model: bytes) -> None:
        super().__init__()
        text_ops()  # says what to install
        self._model, self._digest = model, hashlib.sha256(model).hexdigest()[:16]
        try:
            with tf.init_scope():
                self(tf.constant(["a"]))
        except tf.errors.OpError as error:
            raise ValueError(f"The model cannot be read by tensorflow-text: {error.message}") from error

    def _create_resource(self) -> Any:
        return _operations().sentencepiece_op(model=self._model, shared_name=f"kseq-{self._digest}")

    def __call__(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the ids, ragged int32 `(batch, (pieces))`, of `text`, string `(batch,)`."""
        values, splits = _operations().sentencepiece_tokenize_op(*self._arguments(text), out_type=tf.int32)
        return ragged_rows(values, splits)

    def with_places(self, text: tf.Tensor) -> tuple[tf.RaggedTensor, Offsets]:
        """Return the ids of `text`, string `(batch,)`, and their places in it, in bytes."""
        operation = _operations().sentencepiece_tokenize_with_offsets_op
        values, splits, starts, ends = operation(*self._arguments(text), out_type=tf.int32)
        ids = ragged_rows(values, splits)
        return ids, Offsets(*(ids.with_flat_values(tf.cast(each, tf.int32)) for each in (starts, ends)))

    def _arguments(self, text: tf.Tensor) -> tuple:
        # Nothing is sampled, added or reversed.
        return self.resource_handle, tf.ensure_shape(text, [None]), 0, 1.0, False, False, False


@functools.cache  # so AutoGraph leaves it alone
def _operations() -> Any:
    # tensorflow-text has no public name for its operations.
    return importlib.import_module("tensorflow_text.python.ops.sentencepiece_tokenizer").gen_sentencepiece_tokenizer
