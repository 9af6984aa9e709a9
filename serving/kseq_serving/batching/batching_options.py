"""Batching options, from the BatchingParameters of the command line or of a version's folder."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.flags import Flags
from kseq_serving.models.model_config import read_text_proto
from kseq_serving.protocol.protos import BatchingParameters

PER_MODEL_FILE = "batching_params.pbtxt"

_MAX_ROWS = 1000
_MAX_QUEUED_BATCHES = 10
_MICROS = 1e6


@dataclasses.dataclass(frozen=True)
class BatchingOptions:
    """Batching options of one version, with TensorFlow Serving's defaults.

    Attributes:
        max_rows: Most rows of one request, and of a batch unless requests are split.
        timeout_s: Time that a batch that is not full waits for more requests, in seconds.
        max_queued_batches: Number of batches that may wait; a request that needs one more is refused.
        allowed_sizes: Sizes that batches are filled up to, ascending; empty to run batches of any size.
        pad_inputs: Whether to pad requests of different shapes to a common one.
        split_rows: Most rows of a batch if large requests are split; None to split no request.
    """

    max_rows: int = _MAX_ROWS
    timeout_s: float = 0.0
    max_queued_batches: int = _MAX_QUEUED_BATCHES
    allowed_sizes: tuple[int, ...] = ()
    pad_inputs: bool = False
    split_rows: int | None = None

    @property
    def batch_rows(self) -> int:
        """Most rows of a batch."""
        return self.max_rows if self.split_rows is None else self.split_rows

    def filled_up(self, rows: int) -> int:
        """Return the allowed size that a batch of this many rows is filled up to."""
        return next((size for size in self.allowed_sizes if size >= rows), rows)


@dataclasses.dataclass(frozen=True)
class Batching:
    """Batching as the command line defines it.

    Attributes:
        parameters: Parameters of every model, unless `per_model`.
        per_model: Whether each version's folder holds its own parameters; a version without them is not batched.
    """

    parameters: BatchingParameters
    per_model: bool

    @property
    def at_once(self) -> int:
        """Number of batches of one kind that run at a time.

        Unless the number of threads is set, a core is left to reading and writing: two batches of half the rows, on
        two cores, take as long as one and leave none.
        """
        return self.threads if self.parameters.HasField("num_batch_threads") else max(1, self.threads - 1)

    @property
    def threads(self) -> int:
        """Number of batches that run at a time.

        Raises:
            InvalidArgumentError: If the parameter is not positive.
        """
        if not self.parameters.HasField("num_batch_threads"):
            return len(os.sched_getaffinity(0))
        threads = self.parameters.num_batch_threads.value
        if threads < 1:
            raise InvalidArgumentError(f"num_batch_threads must be positive; was {threads}")
        return threads

    def of_version(self, folder: str) -> BatchingOptions | None:
        """Return the options of the version in `folder`; None if it is not batched.

        Raises:
            InvalidArgumentError: If the parameters contradict each other, or their file cannot be read.
        """
        if not self.per_model:
            return options(self.parameters)
        path = Path(folder) / PER_MODEL_FILE
        return options(read_text_proto(str(path), BatchingParameters())) if path.is_file() else None


def from_flags(flags: Flags) -> Batching | None:
    """Return the batching that the command line defines; None without `--enable_batching`.

    Raises:
        InvalidArgumentError: If the file of parameters cannot be read, or is set without `--enable_batching`.
    """
    if not flags.enable_batching:
        if flags.batching_parameters_file:
            raise InvalidArgumentError(
                "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
            )
        return None
    parameters = BatchingParameters()
    if flags.batching_parameters_file:
        read_text_proto(flags.batching_parameters_file, parameters)
    return Batching(parameters, flags.enable_per_model_batching_parameters)


def options(parameters: BatchingParameters) -> BatchingOptions:
    """Convert BatchingParameters to options.

    Raises:
        InvalidArgumentError: If the parameters contradict each other.
    """
    chosen = BatchingOptions(
        max_rows=_value_or(parameters, "max_batch_size", _MAX_ROWS),
        timeout_s=_value_or(parameters, "batch_timeout_micros", 0) / _MICROS,
        # A queue of 0 batches could never be used, so 0 counts as 1.
        max_queued_batches=_value_or(parameters, "max_enqueued_batches", _MAX_QUEUED_BATCHES) or 1,
        allowed_sizes=tuple(parameters.allowed_batch_sizes),
        pad_inputs=parameters.pad_variable_length_inputs,
        split_rows=_split_rows(parameters),
    )
    _check(chosen)
    return chosen


def _value_or(parameters: BatchingParameters, name: str, default: int) -> int:
    return getattr(parameters, name).value if parameters.HasField(name) else default


def _split_rows(parameters: BatchingParameters) -> int | None:
    if not parameters.enable_large_batch_splitting.value:
        return None
    return _value_or(parameters, "max_execution_batch_size", _value_or(parameters, "max_batch_size", _MAX_ROWS))


def _check(chosen: BatchingOptions) -> None:
    if chosen.allowed_sizes and chosen.allowed_sizes[-1] != chosen.max_rows:
        raise InvalidArgumentError(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{chosen.allowed_sizes[-1]}; expected {chosen.max_rows}"
        )
    if chosen.max_rows < 1:
        raise InvalidArgumentError(f"input_batch_size_limit must be positive; was {chosen.max_rows}")
    if chosen.timeout_s < 0:
        raise InvalidArgumentError(f"batch_timeout_micros must be non-negative; was {chosen.timeout_s * _MICROS:.0f}")
    if chosen.max_queued_batches < 1:
        raise InvalidArgumentError(f"max_enqueued_batches must be positive; was {chosen.max_queued_batches}")
    if chosen.split_rows is not None and not 1 <= chosen.split_rows <= chosen.max_rows:
        raise InvalidArgumentError(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            "max_execution_batch_size."
        )
