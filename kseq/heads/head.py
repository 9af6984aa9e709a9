"""The contract of output heads: distributions of numbers whose parameters a network predicts."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops, tree

from kseq.backend import Tensor, known_value
from kseq.masking import known_shape
from kseq.threefry import Words, inside_uniform, row_keys, threefry

SMALLEST_SCALE = 1e-6  # of a distribution; below it a density would overflow float32


class Head:
    """Base class of output heads: a network gives `size` numbers for each value, the head makes a distribution of them.

    A subclass defines `size`, `parameters`, `log_density` and, unless it has no samples, `draw`, `cdf`, `inverse_cdf`
    and `mean`; its constructor's arguments are attributes of the same names, and `get_config` returns them. The tensors
    that these methods get are float32, whatever the precision of the network.

    Shapes: `...` stands for any axes, such as `(batch, time)`. A head of single numbers has values `(...)`; one of
    several labels per step has values `(..., labels)`, its `event_shape` being `(labels,)`.

    Attributes:
        event_shape: Shape of one value: `()` for a number.
        whole: Whether values are whole numbers.
        lowest: The lowest possible value, or None.
        highest: The highest possible value, or None.
        can_sample: Whether the head is a distribution, which has samples, a mean and probabilities.
        can_scale: Whether `scaled` is defined.
        draws: Number of uniform random numbers that a sample takes.
    """

    event_shape: tuple[int, ...] = ()
    whole: bool = False
    lowest: float | None = None
    highest: float | None = None
    can_sample: ClassVar[bool] = True
    can_scale: bool = True
    draws: int = 1

    @property
    def size(self) -> int:
        """Number of outputs that a network gives for each value."""
        raise NotImplementedError(f"{type(self).__name__} must define size.")

    def parameters(self, outputs: Any) -> Any:
        """Return the distribution's parameters, a NamedTuple of float32 tensors.

        Args:
            outputs: Float `(..., size)`, what a layer without activation returns.

        Raises:
            ValueError: If the last axis is not `size`.
        """
        outputs = ops.cast(ops.convert_to_tensor(outputs), "float32")
        if not len(outputs.shape) or outputs.shape[-1] != self.size:
            raise ValueError(
                f"{self!r} needs {self.size} outputs for each value, but the outputs have shape "
                f"{tuple(outputs.shape)}. End the network in keras.layers.Dense(head.size)."
            )
        return self.parameters_of(outputs)

    def parameters_of(self, outputs: Tensor) -> Any:
        """Return the parameters of float32 `outputs` `(..., size)`."""
        raise NotImplementedError(f"{type(self).__name__} must define parameters_of(outputs).")

    def log_probability(self, parameters: Any, values: Any) -> Tensor:
        """Return the log-probability or log-density of values, float32 `(...)`, in nats.

        A value that the distribution cannot have has -inf, and no gradient; NaN has NaN.

        Args:
            parameters: What `parameters` returned.
            values: Float or int `(..., *event_shape)`: one for each distribution. A single value, of shape
                `event_shape`, is that of all distributions, and a single distribution that of all values.

        Raises:
            ValueError: If there are other numbers of values.
        """
        values = self.checked_values(parameters, values)
        possible = self.supports(values)
        safe = ops.where(possible, values, ops.zeros_like(values))  # 0 is a value of every head
        density = self.log_density(parameters, safe)
        odd = ops.any(ops.isnan(values), axis=self.event_axes)
        outside = ops.where(odd, np.float32(np.nan), np.float32(-np.inf))
        return ops.where(ops.all(possible, axis=self.event_axes), density, outside)

    def checked_values(self, parameters: Any, values: Any) -> Tensor:
        """Return values as float32, or raise ValueError if their shape does not fit that of the parameters."""
        values = ops.cast(ops.convert_to_tensor(values), "float32")
        given, own = known_shape(values), known_shape(self.spread(parameters))
        if given is None or own is None or (given != () and len(own) == len(self.event_shape)):
            return values
        ends = len(given) - len(self.event_shape)
        fits = len(given) == len(own) or ends == 0
        if not fits or any(
            size != wanted and None not in (size, wanted)
            for size, wanted in zip(reversed(given), reversed(own), strict=False)
        ):
            raise ValueError(
                f"The values have shape {given}, but the distributions of {self!r} have values of shape {own}. Give "
                "one value for each distribution, such as by values.reshape(...), or parameters for each value."
            )
        return values

    def log_density(self, parameters: Any, values: Tensor) -> Tensor:
        """Return the log-probability of possible `values`, float32 `(...)`."""
        raise NotImplementedError(f"{type(self).__name__} must define log_density(parameters, values).")

    def loss(self, parameters: Any, values: Any) -> Tensor:
        """Return the loss by which the parameters are trained, float32 `(...)`: the negative log-probability."""
        return -self.log_probability(parameters, values)

    def supports(self, values: Tensor) -> Tensor:
        """Return which numbers the distribution can have, bool of the shape of `values`."""
        possible = ops.isfinite(values)
        if self.whole:
            possible = ops.logical_and(possible, ops.equal(ops.round(values), values))
        if self.lowest is not None:
            possible = ops.logical_and(possible, values >= self.lowest)
        if self.highest is not None:
            possible = ops.logical_and(possible, values <= self.highest)
        return possible

    @property
    def support(self) -> str:
        """What a value is, in words."""
        kind = "a whole number" if self.whole else "a finite number"
        if self.highest is not None:
            return f"{kind} from {self.lowest:g} to {self.highest:g}"
        return kind if self.lowest is None else f"{kind} of at least {self.lowest:g}"

    def sample(self, parameters: Any, seed: Any) -> Tensor:
        """Return one sample of each distribution, float32 `(..., *event_shape)`.

        The same seed gives the same samples on every backend, compiled or not, but for the last bits.

        Args:
            parameters: What `parameters` returned.
            seed: An int; or int `(batch,)`, one seed for each row of the first axis, so that a row alone gets the same
                samples as in a batch; or a key of `kseq.threefry`.
        """
        self.refuse_without_samples("sample")
        shape = ops.shape(self.spread(parameters))
        return self.draw(parameters, uniform_numbers(seed, shape, self.draws))

    def draw(self, parameters: Any, uniforms: Sequence[Tensor]) -> Tensor:
        """Return samples made of `draws` independent numbers, each float32 `(..., *event_shape)` between 0 and 1."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(parameters, uniforms).")

    def cdf(self, parameters: Any, values: Any) -> Tensor:
        """Return the probability of a number of at most each value, float32 `(..., *event_shape)`."""
        raise NotImplementedError(f"{type(self).__name__} must define cdf(parameters, values).")

    def quantile(self, parameters: Any, p: Any) -> Tensor:
        """Return the smallest numbers whose probability of not being exceeded is at least `p`.

        Heads whose quantiles have no closed form search them. These have no gradient: to ask for one is an error.

        Args:
            parameters: What `parameters` returned.
            p: A number between 0 and 1, or several, float `(n,)`.

        Returns:
            Float32 `(..., *event_shape)`, or for several `p` `(..., *event_shape, n)`. NaN for a `p` that is not
            between 0 and 1, where this is not known before a graph runs.

        Raises:
            ValueError: If `p` is not between 0 and 1, or has more than one axis.
        """
        p = self.checked_levels(p)
        several = len(p.shape) == 1
        like = ops.zeros_like(self.spread(parameters))
        p = (ops.reshape(p, (-1, *[1] * len(like.shape))) if several else p) + like  # ([n,] ..., *event_shape)
        found = self.inverse_cdf(parameters, ops.where(ops.isnan(p), 0.5, p))
        found = ops.where(ops.isnan(p), p, found)
        return ops.moveaxis(found, 0, -1) if several else found

    def inverse_cdf(self, parameters: Any, p: Tensor) -> Tensor:
        """Return the quantiles of float32 `p`, of its shape, which may have one more axis before the parameters'."""
        raise NotImplementedError(f"{type(self).__name__} must define inverse_cdf(parameters, p).")

    def bracket(self, parameters: Any, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return numbers below and not below the quantiles of `p`: where a search of them begins.

        By default the quantiles and room for rounding; a head that searches its quantiles overrides it.
        """
        found = self.inverse_cdf(parameters, p)
        room = 1.0 if self.whole else 1e-6 * (1.0 + ops.abs(found))
        return found - room, found if self.whole else found + room

    def mean(self, parameters: Any) -> Tensor:
        """Return the means, float32 `(..., *event_shape)`."""
        raise NotImplementedError(f"{type(self).__name__} must define mean(parameters).")

    def scaled(self, parameters: Any, scale: Tensor) -> Any:
        """Return the parameters of the distribution of values that are `scale` times as large, float32 `(...)` above 0.

        Raises:
            ValueError: If the head's values have no scale.
        """
        raise ValueError(f"The values of {self!r} cannot be scaled.")

    def spread(self, parameters: Any) -> Tensor:
        """Return any tensor of the shape of a sample, `(..., *event_shape)`."""
        return tree.flatten(parameters)[0]

    @property
    def event_axes(self) -> tuple[int, ...]:
        """The axes of a value, counted from the last."""
        return tuple(range(-len(self.event_shape), 0))

    def stack(self, parameters: Any) -> Tensor:
        """Return the parameters as one tensor, float32 `(..., n)`; `unstack` is the inverse."""
        leaves = zip(tree.flatten(parameters), self._leaf_shapes(), strict=True)
        return ops.concatenate([leaf if shape else leaf[..., None] for leaf, shape in leaves], axis=-1)

    def unstack(self, stacked: Tensor) -> Any:
        """Return the parameters in a tensor that `stack` returned."""
        shapes = self._leaf_shapes()
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        parts = ops.split(stacked, ends[:-1].tolist(), axis=-1) if len(shapes) > 1 else [stacked]
        leaves = [part if shape else part[..., 0] for part, shape in zip(parts, shapes, strict=True)]
        return tree.pack_sequence_as(self._structure(), leaves)

    def _structure(self) -> Any:
        """Return the parameters of one value."""
        return self.parameters_of(ops.zeros((self.size,)))

    def _leaf_shapes(self) -> list[tuple[int, ...]]:
        return [tuple(leaf.shape) for leaf in tree.flatten(self._structure())]

    def checked_levels(self, p: Any) -> Tensor:
        """Return probabilities as float32, or raise ValueError if one is not between 0 and 1."""
        known = known_value(p)
        if known is not None and (known.ndim > 1 or not np.all((known > 0) & (known < 1))):
            raise ValueError(f"p must be a number between 0 and 1, or several in a row, but got p={p!r}.")
        p = ops.cast(ops.convert_to_tensor(p), "float32")
        return p if known is not None else ops.where(ops.logical_and(p > 0, p < 1), p, np.float32(np.nan))

    def refuse_without_samples(self, asked: str) -> None:
        """Raise ValueError if the head is no distribution."""
        if not self.can_sample:
            raise ValueError(
                f"{self!r} has no {asked}: it is no distribution. Use a head such as kseq.heads.StudentT()."
            )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Create a head from the result of `get_config`."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Head) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.get_config())
        return f"{type(self).__name__}({arguments})"


def uniform_numbers(seed: Any, shape: Sequence[Any], count: int) -> list[Tensor]:
    """Return `count` tensors of numbers between 0 and 1, float32 of `shape`, a function of the seed and the place.

    Args:
        seed: As in `Head.sample`; a key has one word for each row of the first axis, or is a scalar.
        shape: The rows first; the numbers of a row do not depend on the number of rows.
        count: Number of tensors.
    """
    batch, *rest = shape if len(shape) else (1,)
    key = row_keys(seed, batch)
    key = Words(*(ops.reshape(word, (-1, 1)) for word in key))  # (batch, 1)
    places = 1
    for size in rest:
        places = places * size
    place = ops.cast(ops.arange(places, dtype="int32"), "uint32")
    numbers: list[Tensor] = []
    for pair in range((count + 1) // 2):
        words = threefry(key, Words(place, ops.full_like(place, pair)))
        numbers += [ops.reshape(inside_uniform(bits), shape) for bits in words]
    return numbers[:count]


def positive(outputs: Tensor) -> Tensor:
    """Return positive numbers made of any, for scales: `softplus`, and a little more than 0."""
    return ops.softplus(outputs) + SMALLEST_SCALE


def registered(cls: type) -> type:
    """Register a head for saved models."""
    return keras.saving.register_keras_serializable(package="kseq.heads")(cls)
