"""What a client is told about models: signatures, versions and their states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from kseq_serving.errors import Code
from kseq_serving.protocol import tensors

AVAILABLE = "AVAILABLE"


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Which version of a model is asked for.

    Attributes:
        name: the model.
        version: its version; None for the one the server chooses, the newest.
        label: a version's label, instead of its number.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError(
                f"A version is given by its number or by its label, got version={self.version}, label={self.label!r}. "
                "Leave one out."
            )


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output of a signature.

    Attributes:
        dtype: NumPy's dtype, ``object`` for strings; None for one that NumPy has not.
        shape: the sizes, None for those that vary; None for an unknown rank.
    """

    dtype: np.dtype | None
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function that a model offers.

    Attributes:
        inputs: what it takes, by name.
        outputs: what it gives, by name.
        method_name: TensorFlow Serving's name of the kind of call, such as ``tensorflow/serving/predict``.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    """What a server tells about a version of a model.

    Attributes:
        name: the model.
        version: the version that was asked.
        signatures: what it offers, by name.
    """

    name: str
    version: int
    signatures: Mapping[str, Signature]


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """Where a version stands.

    Attributes:
        version: its number.
        state: ``START``, ``LOADING``, ``AVAILABLE``, ``UNLOADING`` or ``END``.
        code: OK, or what ended it.
        message: the text of what ended it.
    """

    version: int
    state: str
    code: Code = Code.OK
    message: str = ""


def read_signatures(message: Any) -> dict[str, Signature]:
    """The signatures of a SignatureDefMap."""
    return {
        name: Signature(_tensors(signature.inputs), _tensors(signature.outputs), signature.method_name)
        for name, signature in message.signature_def.items()
    }


def read_statuses(message: Any) -> list[VersionStatus]:
    """The versions of a GetModelStatusResponse."""
    return [
        VersionStatus(
            entry.version,
            entry.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[entry.state].name,
            Code(entry.status.error_code),
            entry.status.error_message,
        )
        for entry in message.model_version_status
    ]


def _tensors(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(tensors.DTYPES.get(info.dtype), _shape(info.tensor_shape)) for name, info in infos.items()}


def _shape(shape: Any) -> tuple[int | None, ...] | None:
    return None if shape.unknown_rank else tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)
