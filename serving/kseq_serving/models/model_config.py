"""ModelServerConfig: the models to serve, with their folders, versions and labels."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from kseq_serving.errors import Code, InvalidArgumentError, ServingError
from kseq_serving.protocol.protos import ModelConfig, ModelServerConfig

PLATFORM = "tensorflow"
_MODEL_TYPE_TENSORFLOW = 1
_CODES = {
    errno.ENOENT: Code.NOT_FOUND,
    errno.ENODEV: Code.NOT_FOUND,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.ENOTDIR: Code.FAILED_PRECONDITION,
    errno.EINVAL: Code.INVALID_ARGUMENT,
    errno.ENAMETOOLONG: Code.INVALID_ARGUMENT,
}

MessageT = TypeVar("MessageT", bound=Message)


def read_text_proto(path: str, message: MessageT) -> MessageT:
    """Parse a file in protocol buffers' text format into `message`, and return it.

    Raises:
        ServingError: If the file cannot be read, is empty, or does not hold such a message.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error.errno or 0) from error
    if not data:
        raise _unreadable(path, errno.EINVAL)  # TensorFlow maps files into memory, which refuses empty ones
    try:
        return text_format.Parse(data.decode(), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"Invalid protobuf file: '{path}'") from error


def _unreadable(path: str, number: int) -> ServingError:
    """Return TensorFlow's error for a file that cannot be read, from the system's number of the error."""
    if number == errno.EISDIR:
        number = errno.ENODEV  # a folder can be opened, but not mapped into memory
    return ServingError(_CODES.get(number, Code.UNKNOWN), f"{path}; {os.strerror(number)}")


def read_config(path: str) -> ModelServerConfig:
    """Return the configuration in a text file."""
    return read_text_proto(path, ModelServerConfig())


def single_model(name: str, base_path: str) -> ModelServerConfig:
    """Return the configuration of one model, whose latest version is served."""
    config = ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=PLATFORM)
    return config


def absolute(base_path: str) -> str:
    """Return a base path of the command line as an absolute one; relative paths start at the current folder."""
    return base_path if _is_absolute(base_path) else os.path.abspath(os.path.expanduser(base_path))


def _is_absolute(base_path: str) -> bool:
    return base_path.startswith("/") or "://" in base_path


def platform(model: ModelConfig) -> str:
    """Return the platform of a model, from the present field or the deprecated one."""
    if model.model_type:
        if model.model_platform:
            raise InvalidArgumentError(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {model.name}"
            )
        if model.model_type != _MODEL_TYPE_TENSORFLOW:
            raise InvalidArgumentError(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
        return PLATFORM
    if not model.model_platform:
        raise InvalidArgumentError(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {model.name}"
        )
    return model.model_platform


def validate(models: Iterable[ModelConfig], served: Iterable[ModelConfig] = ()) -> None:
    """Refuse a list of models that contradicts itself or the one in force; see also `check_platforms`.

    Args:
        models: Models of the new configuration.
        served: Models of the configuration in force, which must keep their platform.

    Raises:
        InvalidArgumentError: If a name occurs twice, a path is relative, or a model changes its platform.
    """
    models = list(models)
    _check_names(models)
    for model in models:
        if not _is_absolute(model.base_path):
            raise InvalidArgumentError(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
    platforms = {model.name: platform(model) for model in served}
    for model in models:
        if model.name in platforms and platform(model) != platforms[model.name]:
            raise InvalidArgumentError(
                f"Illegal to change a model's platform. For model {model.name} platform was {platforms[model.name]} "
                f"and new platform requested is {platform(model)}"
            )


def check_platforms(models: Iterable[ModelConfig]) -> None:
    """Refuse models of another platform than TensorFlow.

    Raises:
        InvalidArgumentError: If there is such a model.
    """
    for model in models:
        if platform(model) != PLATFORM:
            raise InvalidArgumentError(f"Model {model.name} requests unsupported platform {platform(model)}")


def check_request_logs(models: Iterable[ModelConfig]) -> None:
    """Refuse models whose requests are to be logged.

    Raises:
        InvalidArgumentError: If there is such a model.
    """
    if any(model.HasField("logging_config") for model in models):
        raise InvalidArgumentError("No request-logger-creator provided.")


def _check_names(models: Iterable[ModelConfig]) -> None:
    seen: set[str] = set()
    for model in models:
        if model.name in seen:
            raise InvalidArgumentError(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
