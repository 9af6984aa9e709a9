"""The contract between a model and the export: its inputs, and the function that answers a request.

Any model with a method `serving(options) -> Serving` can be exported; the export knows no model class by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kseq.backend import Tensor


@dataclass(frozen=True)
class ServingOptions:
    """The arguments of `kseq.export_saved_model` that concern the model.

    Attributes:
        strategy: Decoding strategy; None for the model's default.
        source: Tokenizer of the inputs, or None.
        target: Tokenizer of the outputs, or None.
        max_length: Largest number of tokens to write; None for the model's default.
        longest: Largest number of steps in a row of the inputs.
        seed_input: Whether requests contain a seed for each row.
        alignments: Whether the answer must contain `alignments`, float `(batch, n, time, steps)`: they are sent to the
            client, or used to replace unknown tokens.
    """

    strategy: Callable[..., Any] | None
    source: Any
    target: Any
    max_length: int | None
    longest: int
    seed_input: bool = False
    alignments: bool = False


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """The inputs of a signature: padded sequences, and their lengths under the name `lengths`.

    Attributes:
        name: Name of the sequences.
        dtype: Their dtype.
        step_shape: Shape of one step: `()` for a token, `(features,)` for a frame.
        pad_value: Value of the padding.
        vocabulary_size: Token ids outside `[0, vocabulary_size)` are refused; None if the steps are not tokens.
    """

    name: str
    dtype: str
    step_shape: tuple[int, ...] = ()
    pad_value: int = 0
    vocabulary_size: int | None = None

    def sample(self, size: int, length: int) -> dict[str, np.ndarray]:
        """Return a request of `size` rows of `length` steps."""
        steps = np.zeros((size, length, *self.step_shape), self.dtype)
        return {self.name: steps, "lengths": np.full(size, length, "int32")}


class Serving(NamedTuple):
    """The inputs of an exported model and the function that answers them.

    Attributes:
        inputs: The sequences that the model takes; a `source` tokenizer produces them from `text`.
        answer: A pure function `(steps (batch, time, ...), lengths int32 (batch,)) -> {name: tensor (batch, ...)}` that
            XLA can compile and whose rows are independent. With `ServingOptions.seed_input` its third argument is
            the rows' seeds, int64 `(batch,)`. With a `target` tokenizer, the export adds `text` from the answer's
            `tokens`, int32 `(batch, n, time)`.
    """

    inputs: StepInputs
    answer: Callable[..., dict[str, Tensor]]
