"""The chain of normalizers."""

import dataclasses
import itertools
from collections.abc import Iterable, Set
from typing import Any, Self

import keras
import tensorflow as tf

from kseq.text.normalization import Normalizer, checked_normalizer


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True)
class NormalizerSequence(Normalizer):
    """Applies normalizers one after the other.

    The order matters. `UnescapeHTML` comes first, since entities may stand for apostrophes, and `ExpandContractions`
    before `FilterCharacters`, which removes apostrophes. `TextNormalizer` is usually the last one, because others leave
    white space.

    Args:
        normalizers: Normalizers, or functions of string tensors that Keras can serialise. A function must return valid
            UTF-8.

    Call arguments are those of `Normalizer`.

    Raises:
        TypeError: If one of them is not a function, or they are a set, which has no order.
        ValueError: If there are none.

    Example:
        >>> normalizer = NormalizerSequence([UnescapeHTML(), ExpandContractions(), TextNormalizer(case="lower")])
        >>> normalizer("Fish &amp; chips  don&rsquo;t mix").numpy()
        b'fish & chips do not mix'
    """

    normalizers: Iterable[Any]

    def __post_init__(self) -> None:
        given = self.normalizers
        if isinstance(given, str | bytes | Set) or not isinstance(given, Iterable):
            raise TypeError(f"NormalizerSequence takes a list of normalizers, but got {given!r}. Give [normalizer].")
        steps = tuple(map(checked_normalizer, given))
        if not steps or None in steps:
            raise ValueError(
                f"NormalizerSequence needs at least one normalizer and no None among them, but got {list(steps)!r}. "
                "For no normalisation give a tokenizer normalizer=None."
            )
        object.__setattr__(self, "normalizers", steps)

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, normalised."""
        for step in self.normalizers:
            text = step.normalize(text) if isinstance(step, Normalizer) else step(text)
        return text

    @property
    def parts(self) -> list[Any]:
        """The chain, and the normalizers and functions in it."""
        steps = [each.parts if isinstance(each, Normalizer) else [each] for each in self.normalizers]
        return [self, *itertools.chain.from_iterable(steps)]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"normalizers": [keras.saving.serialize_keras_object(each) for each in self.normalizers]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `config` describes."""
        return cls([keras.saving.deserialize_keras_object(each) for each in config["normalizers"]])
