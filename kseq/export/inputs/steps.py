"""Presets for sequences of tokens and of frames, and for texts that a tokenizer turns into tokens."""

from dataclasses import dataclass
from typing import Any, ClassVar

import keras

from kseq.export.inputs.preset import InputPreset, mask_value, refuse_shape
from kseq.models.export_contract import StepInputs
from kseq.numbers import real


@dataclass(frozen=True, kw_only=True)
class Tokens(InputPreset):
    """Requests contain `tokens` int32 `(batch, time)` and `lengths` int32 `(batch,)`.

    Attributes:
        vocabulary_size: Ids outside `[0, vocabulary_size)` are refused. None: the largest `input_dim` of the model's
            `Embedding` layers; smaller ones may be of positions.
        pad_value: Id of the padding.
    """

    name: ClassVar[str] = "tokens"
    vocabulary_size: int | None = None
    pad_value: int = 0

    def inputs(self, model: Any, shape: tuple[Any, ...]) -> StepInputs:
        """Return the sequences of ids."""
        if len(shape) != 2:
            raise refuse_shape("tokens", shape, "(batch, time)")
        size = self.vocabulary_size
        if size is None:
            sizes = [of.input_dim for of in model._flatten_layers() if isinstance(of, keras.layers.Embedding)]
            size = max(sizes, default=None)
        return StepInputs(dtype="int32", pad_value=self.pad_value, vocabulary_size=size)


class Text(Tokens):
    """Requests contain `text` string `(batch,)`, which the tokenizer `source` turns into tokens."""


@dataclass(frozen=True, kw_only=True)
class Features(InputPreset):
    """Requests contain `features` float32 `(batch, time, ...)` and `lengths` int32 `(batch,)`.

    Attributes:
        pad_value: Value of the padding. None: the `mask_value` of the model's first `keras.layers.Masking`, or 0.
    """

    name: ClassVar[str] = "features"
    pad_value: float | None = None

    def inputs(self, model: Any, shape: tuple[Any, ...]) -> StepInputs:
        """Return the sequences of frames."""
        if len(shape) < 2:
            raise refuse_shape("features", shape, "(batch, time, ...)")
        pad_value = mask_value(model) if self.pad_value is None else real("pad_value", self.pad_value)
        return StepInputs(dtype="float32", step_shape=shape[2:], pad_value=pad_value)
