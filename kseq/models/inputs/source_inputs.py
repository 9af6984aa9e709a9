"""The inputs of an encoder-decoder model: rows of tokens, or an array of numbers for each row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.ids import Rows, read_rows
from kseq.masking import mask_from_lengths
from kseq.models.export_contract import Inputs, RowInputs, StepInputs
from kseq.models.inputs.model_inputs import is_nested, lengths_of, pad_rows
from kseq.models.inputs.row_arrays import check_arrays, read_arrays, stacked
from kseq.models.inputs.token_checks import check_batch

LONGEST_TEXT = 64  # tokens written for an array, whose size tells nothing of the text's


class Source:
    """The contract of what a model reads, its input `source`."""

    def input_names(self) -> dict[str, Any]:
        """Return the fields of `InputNames` that concern the input `source`."""
        raise NotImplementedError

    def read(self, source: Any, source_lengths: Any = None) -> Rows:
        """Return the rows that the encoder reads, and which of them are valid.

        Raises:
            ValueError: If an argument does not fit.
        """
        raise NotImplementedError

    def completed(self, source: Any, source_lengths: Any = None) -> tuple[Any, Any]:
        """Return `source` as arrays, from rows as users have them, and its lengths."""
        raise NotImplementedError

    def check(self, inputs: Any, targets: Mapping[str, int]) -> None:
        """Raise ValueError if arrays in the inputs do not fit.

        Args:
            inputs: The model's inputs.
            targets: Number of token ids by the names of other sequences, which are checked too.
        """
        raise NotImplementedError

    def mask(self, rows: Rows) -> Tensor | None:
        """Return which steps of the encoder's outputs are real, bool `(batch, steps)`; None if all are."""
        raise NotImplementedError

    def longest_text(self, longest: int) -> int:
        """Return the largest number of tokens that are written, for rows of up to `longest` steps."""
        raise NotImplementedError

    def in_requests(self) -> Inputs:
        """Return the inputs of the exported model."""
        raise NotImplementedError

    def of_request(self, tensors: Mapping[str, Tensor]) -> tuple:
        """Return the arguments of `decode` and `encode`, from the inputs of the exported model."""
        raise NotImplementedError


@dataclass(frozen=True)
class TokenSource(Source):
    """Token ids, int `(batch, time)`, with their lengths.

    Attributes:
        vocabulary_size: Number of token ids.
        pad_id: Id of the padding.
        subsampling: Number of tokens for each step of the encoder's outputs.
    """

    vocabulary_size: int
    pad_id: int
    subsampling: int = 1

    def input_names(self) -> dict[str, Any]:
        """Return the name of the lengths, and the padding."""
        return {"lengths": {"source": "source_lengths"}, "ends": {"source": self.pad_id}, "per_row": ()}

    def read(self, source: Any, source_lengths: Any = None) -> Rows:
        """Return rows of ids that are safe to look up, see `read_rows`."""
        return read_rows(source, source_lengths, self.vocabulary_size, name="source")

    def completed(self, source: Any, source_lengths: Any = None) -> tuple[Any, Any]:
        """Return padded ids and lengths; without lengths the rows of an array end before their trailing padding."""
        if is_nested(source):
            source, own_lengths = pad_rows(source, "source")
            return source, own_lengths if source_lengths is None else source_lengths
        if source_lengths is None:
            source_lengths = lengths_of(ops.convert_to_numpy(source), "source", {"source": self.pad_id})
        return source, source_lengths

    def check(self, inputs: Any, targets: Mapping[str, int]) -> None:
        """Raise ValueError if ids or lengths do not fit."""
        check_batch(inputs, {"source": self.vocabulary_size, **targets})

    def mask(self, rows: Rows) -> Tensor:
        """Return which steps of the encoder's outputs are real."""
        # An encoder pads a batch of empty texts to one step.
        time = 1 if rows.ids.shape[1] == 0 else ops.shape(rows.ids)[1]
        every = self.subsampling
        return mask_from_lengths((rows.lengths + every - 1) // every, (time + every - 1) // every)

    def longest_text(self, longest: int) -> int:
        """Return twice the number of steps."""
        return 2 * longest

    def in_requests(self) -> Inputs:
        """Return the tokens."""
        return {"tokens": StepInputs(dtype="int32", pad_value=self.pad_id, vocabulary_size=self.vocabulary_size)}

    def of_request(self, tensors: Mapping[str, Tensor]) -> tuple:
        """Return the tokens and their lengths."""
        return tensors["tokens"], tensors["lengths"]


@dataclass(frozen=True)
class ArraySource(Source):
    """An array of numbers for each row, all of one shape: vectors, pictures, grids of features.

    Attributes:
        shape: Shape of a row's array.
    """

    shape: tuple[int, ...]

    def input_names(self) -> dict[str, Any]:
        """Return that there is one array for each row."""
        return {"lengths": {}, "ends": {}, "per_row": ("source",), "row_shapes": {"source": self.shape}}

    def read(self, source: Any, source_lengths: Any = None) -> Rows:
        """Return float32 `(batch, *shape)`, zeros in rows with NaN or infinity, see `read_arrays`."""
        _refuse_lengths(source_lengths)
        return read_arrays(source, self.shape)

    def completed(self, source: Any, source_lengths: Any = None) -> tuple[Any, None]:
        """Return a list of arrays as one array."""
        _refuse_lengths(source_lengths)
        return (stacked(source, self.shape) if is_nested(source) else source), None

    def check(self, inputs: Any, targets: Mapping[str, int]) -> None:
        """Raise ValueError if the arrays have another shape, are no numbers, or have NaN or infinity."""
        if not isinstance(inputs, Mapping) or "source" not in inputs:
            came = sorted(inputs) if isinstance(inputs, Mapping) else f"a {type(inputs).__name__}"
            raise ValueError(f"The inputs must be a dict of {['source', *targets]}, but they are {came}.")
        if "source_lengths" in inputs:
            _refuse_lengths(inputs["source_lengths"])
        check_arrays(np.asarray(inputs["source"]), self.shape)
        if not len(inputs["source"]):
            raise ValueError(f"The batch is empty: source has shape {np.shape(inputs['source'])}. Give some rows.")
        check_batch(inputs, targets)

    def mask(self, rows: Rows) -> None:
        """Return None: all steps are real."""

    def longest_text(self, longest: int) -> int:
        """Return a fixed number."""
        return LONGEST_TEXT

    def in_requests(self) -> Inputs:
        """Return the arrays, called features."""
        return {"features": RowInputs(dtype="float32", shape=self.shape)}

    def of_request(self, tensors: Mapping[str, Tensor]) -> tuple:
        """Return the arrays."""
        return (tensors["features"],)


def source_of(model: Any) -> TokenSource | ArraySource:
    """Return what a model reads: arrays if it has a `source_shape` that is not None, else tokens."""
    shape = getattr(model, "source_shape", None)
    if shape is not None:
        return ArraySource(tuple(shape))
    return TokenSource(model.source_vocabulary_size, model.pad_id, getattr(model, "source_subsampling", 1))


def _refuse_lengths(source_lengths: Any) -> None:
    if source_lengths is not None:
        raise ValueError(
            f"source_lengths={source_lengths!r}, but this model reads arrays without padding. Leave it out."
        )
