# ruff: noqa: D101 (the classes below only lend their names to the type checker)
"""TensorFlow's and TensorFlow Serving's messages under one roof.

Their modules build the classes when they are imported, so a type checker sees nothing in them. Here it sees classes
of the right names whose fields are ``Any``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message

    class _AnyFields(Message):
        def __init__(self, **fields: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    class ConfigProto(_AnyFields): ...

    class GetModelMetadataRequest(_AnyFields): ...

    class GetModelMetadataResponse(_AnyFields): ...

    class GetModelStatusRequest(_AnyFields): ...

    class GetModelStatusResponse(_AnyFields): ...

    class ModelConfig(_AnyFields): ...

    class ModelServerConfig(_AnyFields): ...

    class ModelSpec(_AnyFields): ...

    class PredictionLog(_AnyFields): ...

    class PredictRequest(_AnyFields): ...

    class PredictResponse(_AnyFields): ...

    class RunOptions(_AnyFields): ...

    class SavedModel(_AnyFields): ...

    class ServableVersionPolicy(_AnyFields): ...

    class SignatureDef(_AnyFields): ...

    class SignatureDefMap(_AnyFields): ...

    class TensorProto(_AnyFields): ...
else:
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.core.protobuf.config_pb2 import ConfigProto, RunOptions
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    from tensorflow_serving.apis.get_model_metadata_pb2 import (
        GetModelMetadataRequest,
        GetModelMetadataResponse,
        SignatureDefMap,
    )
    from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
    from tensorflow_serving.apis.model_pb2 import ModelSpec
    from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
    from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig
    from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

    ServableVersionPolicy = FileSystemStoragePathSourceConfig.ServableVersionPolicy

__all__ = [
    "ConfigProto",
    "GetModelMetadataRequest",
    "GetModelMetadataResponse",
    "GetModelStatusRequest",
    "GetModelStatusResponse",
    "ModelConfig",
    "ModelServerConfig",
    "ModelSpec",
    "PredictRequest",
    "PredictResponse",
    "PredictionLog",
    "RunOptions",
    "SavedModel",
    "ServableVersionPolicy",
    "SignatureDef",
    "SignatureDefMap",
    "TensorProto",
]
