"""ModelServerConfig: the models to serve, with their folders, versions and labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.protocol.protos import ModelConfig, ModelServerConfig

PLATFORM = "tensorflow"
_MODEL_TYPE_TENSORFLOW = 1

MessageT = TypeVar("MessageT", bound=Message)


def read_text_proto(path: str, message: MessageT) -> MessageT:
    """Parse a file in protocol buffers' text format into `message`, and return it.

    Raises:
        InvalidArgumentError: If the file cannot be read, or does not hold such a message.
    """
    try:
        return text_format.Parse(Path(path).read_text(encoding="utf-8"), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"Invalid protobuf file: '{path}'") from error
    except OSError as error:
        raise InvalidArgumentError(f"{path}; {error.strerror}") from error


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
                "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
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
    """Refuse a list of models that cannot be served, without reading the file system.

    Args:
        models: Models of the new configuration.
        served: Models of the configuration in force, which must keep their platform.

    Raises:
        InvalidArgumentError: If a name occurs twice, or a model has a relative path, another platform than TensorFlow,
            or a request log.
    """
    models = list(models)
    _check_names(models)
    for model in models:
        if not _is_absolute(model.base_path):
            raise InvalidArgumentError(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
    _check_platforms(models, {model.name: platform(model) for model in served})
    if any(model.HasField("logging_config") for model in models):
        raise InvalidArgumentError("No request-logger-creator provided.")


def _check_names(models: Iterable[ModelConfig]) -> None:
    seen: set[str] = set()
    for model in models:
        if model.name in seen:
            raise InvalidArgumentError(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)


def _check_platforms(models: Iterable[ModelConfig], served: Mapping[str, str]) -> None:
    for model in models:
        wanted = platform(model)
        if wanted != served.get(model.name, wanted):
            raise InvalidArgumentError(
                f"Illegal to change a model's platform. For model {model.name} platform was {served[model.name]} and "
                f"new platform requested is {wanted}"
            )
    for model in models:
        if platform(model) != PLATFORM:
            raise InvalidArgumentError(f"Model {model.name} requests unsupported platform {platform(model)}")
