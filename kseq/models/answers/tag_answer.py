"""The answer of models that give each step a tag."""

from keras import ops

from kseq.backend import Tensor


def tags_and_scores(probabilities: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return the most probable tag of each step and its probability.

    Args:
        probabilities: float `(batch, time, tags)`.
        mask: Bool `(batch, time)`, True at the real steps.

    Returns:
        `tags` int32 `(batch, time)`, -1 in the padding, and `scores` float32 `(batch, time)`, 0 in the padding.
    """
    tags = ops.cast(ops.argmax(probabilities, axis=-1), "int32")
    scores = ops.cast(ops.max(probabilities, axis=-1), "float32")
    return {"tags": ops.where(mask, tags, -1), "scores": ops.where(mask, scores, 0.0)}
