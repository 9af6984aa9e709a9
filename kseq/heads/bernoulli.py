"""Independent Bernoulli distributions of several labels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from kseq.backend import Tensor
from kseq.heads.head import Head, registered
from kseq.numbers import positive_int


class BernoulliParameters(NamedTuple):
    """Float32 `(..., labels)`."""

    logits: Tensor


@registered
class Bernoulli(Head):
    """Any number of labels at each step, each with a probability of its own: the notes of a piano roll, sets of events.

        P(label i) = 1 / (1 + exp(-o_i))

    A value is `(labels,)` of 0 and 1; its log-probability is the sum over the labels.

    Args:
        labels: Number of labels.

    Raises:
        ValueError: If `labels` is not a whole number above 0.

    Example:
        >>> head = kseq.heads.Bernoulli(88)
        >>> head.sample(head.parameters(np.zeros((4, 10, 88))), seed=0).shape
        (4, 10, 88)
    """

    whole = True
    lowest = 0.0
    highest = 1.0
    can_scale = False

    def __init__(self, labels: int):
        self.labels = positive_int(self, "labels", labels)
        self.event_shape = (self.labels,)

    @property
    def size(self) -> int:
        """Number of outputs that a network gives for each value."""
        return self.labels

    def parameters_of(self, outputs: Tensor) -> BernoulliParameters:
        """Return the parameters of float32 `outputs` `(..., labels)`."""
        return BernoulliParameters(outputs)

    def log_density(self, parameters: BernoulliParameters, values: Tensor) -> Tensor:
        """Return the log-probability of 0 and 1 in `values`."""
        logits = parameters.logits
        return -ops.sum(ops.softplus(ops.where(values > 0.5, -logits, logits)), axis=-1)

    def draw(self, parameters: BernoulliParameters, uniforms: Sequence[Tensor]) -> Tensor:
        """Return samples."""
        return ops.cast(uniforms[0] < ops.sigmoid(parameters.logits), "float32")

    def cdf(self, parameters: BernoulliParameters, values: Tensor) -> Tensor:
        """Return the probability of a number of at most each value, label by label."""
        values = ops.cast(values, "float32")
        below = ops.where(values < 0.0, 0.0, ops.sigmoid(-parameters.logits))
        return ops.where(values < 1.0, below, ops.ones_like(below))

    def inverse_cdf(self, parameters: BernoulliParameters, p: Tensor) -> Tensor:
        """Return the quantiles of `p`, label by label."""
        return ops.cast(p > ops.sigmoid(-parameters.logits), "float32")

    def mean(self, parameters: BernoulliParameters) -> Tensor:
        """Return the probabilities of the labels."""
        return ops.sigmoid(parameters.logits)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"labels": self.labels}
