"""Mixtures of distributions."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.heads.head import Head, registered
from kseq.heads.special_functions import search_quantile

LOG_ZERO = -1e30  # finite: -inf gives NaN gradients in logsumexp


class MixtureParameters(NamedTuple):
    """The weights of the components, and the parameters of each."""

    log_weights: Tensor  # float32 (..., components)
    components: tuple[Any, ...]


@registered
class Mixture(Head):
    """A mixture of any heads: for values with several modes, or with rare large ones.

        P(x) = sum_i w_i P_i(x);   w = softmax(o_1 ... o_k)

    The next outputs are those of the components, one after the other.

    Args:
        components: Heads, all of whole numbers or none, with one `event_shape`.

    Raises:
        ValueError: If there is no component, one is no distribution, or they do not fit each other.

    Example:
        >>> head = kseq.heads.Mixture([kseq.heads.Normal(), kseq.heads.StudentT()])
        >>> head.size
        7
    """

    def __init__(self, components: Sequence[Head]):
        self.components = tuple(components)
        wrong = [each for each in self.components if not isinstance(each, Head) or not each.can_sample]
        if wrong or not self.components:
            raise ValueError(
                f"A Mixture needs heads that are distributions, at least one, but got {self.components!r}. Give such "
                "as [kseq.heads.Normal(), kseq.heads.Laplace()]."
            )
        kinds = {(each.whole, each.event_shape) for each in self.components}
        if len(kinds) > 1:
            raise ValueError(
                f"The components {self.components!r} have values of different kinds. Mix distributions of whole "
                "numbers or others, of one event_shape."
            )
        ((self.whole, self.event_shape),) = kinds
        lows = [-math.inf if each.lowest is None else each.lowest for each in self.components]
        highs = [math.inf if each.highest is None else each.highest for each in self.components]
        self.lowest = min(lows) if math.isfinite(min(lows)) else None
        self.highest = max(highs) if math.isfinite(max(highs)) else None
        self.can_scale = all(each.can_scale for each in self.components)
        self.draws = 1 + max(each.draws for each in self.components)

    @property
    def size(self) -> int:
        """Number of outputs that a network gives for each value."""
        return len(self.components) + sum(each.size for each in self.components)

    def parameters_of(self, outputs: Tensor) -> MixtureParameters:
        """Return the parameters of float32 `outputs` `(..., size)`."""
        ends = np.cumsum([len(self.components), *(each.size for each in self.components)])
        weights, *parts = ops.split(outputs, ends[:-1].tolist(), axis=-1)
        pairs = zip(self.components, parts, strict=True)
        return MixtureParameters(
            ops.log_softmax(weights, axis=-1), tuple(each.parameters_of(part) for each, part in pairs)
        )

    def log_density(self, parameters: MixtureParameters, values: Tensor) -> Tensor:
        """Return the log-probability of `values`."""
        densities = [head.log_probability(of, values) for head, of in self._pairs(parameters)]
        densities = ops.maximum(ops.stack(densities, axis=-1), LOG_ZERO)
        return ops.logsumexp(parameters.log_weights + densities, axis=-1)

    def draw(self, parameters: MixtureParameters, uniforms: Sequence[Tensor]) -> Tensor:
        """Return samples: a component is drawn, and then a value of it."""
        chosen = uniforms[0][(..., *[0] * len(self.event_shape))]
        ends = ops.cumsum(ops.exp(parameters.log_weights), axis=-1)[..., :-1]
        component = ops.sum(ops.cast(chosen[..., None] > ends, "int32"), axis=-1)
        component = ops.reshape(component, (*ops.shape(component), *[1] * len(self.event_shape)))
        samples = [head.draw(of, uniforms[1 : 1 + head.draws]) for head, of in self._pairs(parameters)]
        drawn = samples[0]
        for index, sample in enumerate(samples):
            drawn = ops.where(component == index, sample, drawn)
        return drawn

    def cdf(self, parameters: MixtureParameters, values: Tensor) -> Tensor:
        """Return the probability of a number of at most each value."""
        return self._weighted(parameters, [head.cdf(of, values) for head, of in self._pairs(parameters)])

    def inverse_cdf(self, parameters: MixtureParameters, p: Tensor) -> Tensor:
        """Return the quantiles of `p`, which have no gradient."""
        return search_quantile(lambda x: self.cdf(parameters, x), p, *self.bracket(parameters, p), whole=self.whole)

    def bracket(self, parameters: MixtureParameters, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return numbers below and not below the quantiles of `p`: the widest of the components."""
        lows, highs = zip(*(head.bracket(of, p) for head, of in self._pairs(parameters)), strict=True)
        return functools.reduce(ops.minimum, lows), functools.reduce(ops.maximum, highs)

    def mean(self, parameters: MixtureParameters) -> Tensor:
        """Return the means."""
        return self._weighted(parameters, [head.mean(of) for head, of in self._pairs(parameters)])

    def scaled(self, parameters: MixtureParameters, scale: Tensor) -> MixtureParameters:
        """Return the parameters of the mixture of the scaled components."""
        return parameters._replace(components=tuple(head.scaled(of, scale) for head, of in self._pairs(parameters)))

    def spread(self, parameters: MixtureParameters) -> Tensor:
        """Return any tensor of the shape of a sample."""
        return self.components[0].spread(parameters.components[0])

    def _pairs(self, parameters: MixtureParameters) -> list[tuple[Head, Any]]:
        return list(zip(self.components, parameters.components, strict=True))

    def _weighted(self, parameters: MixtureParameters, values: list[Tensor]) -> Tensor:
        """Return the mean of the components' `values`, `(..., *event_shape)` each, by their weights."""
        weights = ops.exp(parameters.log_weights)
        total = ops.zeros_like(values[0])
        for index, value in enumerate(values):
            weight = weights[..., index]
            total = total + ops.reshape(weight, (*ops.shape(weight), *[1] * len(self.event_shape))) * value
        return total

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"components": [keras.saving.serialize_keras_object(each) for each in self.components]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Mixture":
        """Create a mixture from the result of `get_config`."""
        return cls([keras.saving.deserialize_keras_object(each) for each in config["components"]])
