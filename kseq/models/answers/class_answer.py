"""The answer of models that give each row a class."""

from keras import ops

from kseq.backend import Tensor


def classes_and_probabilities(probabilities: Tensor, top: int | None = None) -> dict[str, Tensor]:
    """Return the classes of each row, the most probable first, and their probabilities.

    Args:
        probabilities: float `(batch, classes)`.
        top: Number of classes in the answer; None: all.

    Returns:
        `classes` int32 `(batch, n)` and `probabilities` float `(batch, n)`.
    """
    probabilities, classes = ops.top_k(probabilities, top or probabilities.shape[-1])
    return {"classes": ops.cast(classes, "int32"), "probabilities": probabilities}
