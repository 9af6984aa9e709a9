"""What models without a source tokenizer are sent."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from kseq.export.padding import check_ids
from kseq.models import CTCRecognizer


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """Sequences of steps, and how many of them are real, as a signature has them.

    Attributes:
        name: The sequences' name; that of their lengths is `lengths`.
        dtype: Their type.
        step_shape: The shape of a step: none for a token, `(features,)` for a frame.
        pad_value: What fills them up.
        vocabulary_size: Tokens outside `[0, vocabulary_size)` are refused; None for what is no token.
    """

    name: str
    dtype: tf.DType
    step_shape: tuple[int, ...] = ()
    pad_value: int = 0
    vocabulary_size: int | None = None

    @classmethod
    def of(cls, model: Any) -> "StepInputs":
        """Return what `model` takes: frames, if it is a recognizer, or tokens."""
        if isinstance(model, CTCRecognizer):
            return cls(name="features", dtype=tf.float32, step_shape=(model.feature_size,))
        size = model.source_vocabulary_size
        return cls(name="tokens", dtype=tf.int32, pad_value=model.pad_id, vocabulary_size=size)

    @property
    def signature(self) -> list[tf.TensorSpec]:
        """What a signature takes."""
        steps = tf.TensorSpec([None, None, *self.step_shape], self.dtype, name=self.name)
        return [steps, tf.TensorSpec([None], tf.int32, name="lengths")]

    def checked(self, steps: tf.Tensor) -> tf.Tensor:
        """Return `steps`, failing the request with INVALID_ARGUMENT if one is a token that there is not."""
        return steps if self.vocabulary_size is None else check_ids(steps, self.vocabulary_size)

    def sample(self, size: int, bucket: int) -> dict[str, np.ndarray]:
        """Return a request of `size` rows of `bucket` steps."""
        steps = np.zeros((size, bucket, *self.step_shape), self.dtype.as_numpy_dtype)
        return {self.name: steps, "lengths": np.full(size, bucket, "int32")}
