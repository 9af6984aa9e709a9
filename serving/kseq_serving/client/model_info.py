"""Descriptions of models: signatures, versions and their states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from kseq_serving.client.kinds import check_text, check_version
from kseq_serving.errors import Code
from kseq_serving.protocol import tensors

AVAILABLE = "AVAILABLE"


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Model and version that a call asks for.

    Attributes:
        name: Name of the model.
        version: Number of the version; None for the newest, unless there is a label.
        label: Label of the version, instead of its number.

    Raises:
        ValueError: If both a number and a label are set.
        TypeError: If the name or the label is not a str, or the version not a whole number.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        check_text("model", self.name)
        if self.version is not None:
            check_version(self.version)
        if self.label is not None:
            check_text("label", self.label)
        if self.version is not None and self.label is not None:
            raise ValueError(
                f"A version is given by its number or by its label, got version={self.version}, label={self.label!r}. "
                "Leave one out."
            )


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Input or output of a signature.

    Attributes:
        dtype: NumPy dtype, `object` for strings; None for a dtype that NumPy does not have.
        shape: Sizes of the dimensions, None for a size that varies; None for an unknown rank.
    """

    dtype: np.dtype | None
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class Signature:
    """Signature of a model: a function that calls can run.

    Attributes:
        inputs: Inputs by name.
        outputs: Outputs by name.
        method_name: Method that the signature was exported for, such as `tensorflow/serving/predict`.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    """Metadata of a version.

    Attributes:
        name: Name of the model.
        version: Number of the version.
        signatures: Signatures by name.
    """

    name: str
    version: int
    signatures: Mapping[str, Signature]


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """State of a version.

    Attributes:
        version: Number of the version.
        state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        code: Code of the error that ended the version; OK without one.
        message: Text of that error.
    """

    version: int
    state: str
    code: Code = Code.OK
    message: str = ""


def read_signatures(message: Any) -> dict[str, Signature]:
    """Read the signatures of a SignatureDefMap message."""
    return {
        name: Signature(_tensors(signature.inputs), _tensors(signature.outputs), signature.method_name)
        for name, signature in message.signature_def.items()
    }


def read_statuses(message: Any) -> list[VersionStatus]:
    """Read the versions of a GetModelStatusResponse message."""
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
