# ruff: noqa: D101 (the classes below exist for the type checker alone)
"""Messages of TensorFlow and TensorFlow Serving.

Their modules build the classes at import time, so type checkers do not see them. Here, type checkers see classes of
the same names whose fields are `Any`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message

    class _AnyFields(Message):
        def __init__(self, **fields: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    class BatchingParameters(_AnyFields): ...

    class ClassificationRequest(_AnyFields): ...

    class ClassificationResponse(_AnyFields): ...

    class ClassificationResult(_AnyFields): ...

    class ConfigProto(_AnyFields): ...

    class Example(_AnyFields): ...

    class GetModelMetadataRequest(_AnyFields): ...

    class GetModelMetadataResponse(_AnyFields): ...

    class GetModelStatusRequest(_AnyFields): ...

    class GetModelStatusResponse(_AnyFields): ...

    class Input(_AnyFields): ...

    class ModelConfig(_AnyFields): ...

    class ModelServerConfig(_AnyFields): ...

    class ModelSpec(_AnyFields): ...

    class MonitoringConfig(_AnyFields): ...

    class MultiInferenceRequest(_AnyFields): ...

    class MultiInferenceResponse(_AnyFields): ...

    class PredictionLog(_AnyFields): ...

    class PredictRequest(_AnyFields): ...

    class PredictResponse(_AnyFields): ...

    class RegressionRequest(_AnyFields): ...

    class RegressionResponse(_AnyFields): ...

    class RegressionResult(_AnyFields): ...

    class ReloadConfigRequest(_AnyFields): ...

    class ReloadConfigResponse(_AnyFields): ...

    class RunOptions(_AnyFields): ...

    class SavedModel(_AnyFields): ...

    class SerializedInput(_AnyFields): ...

    class ServableVersionPolicy(_AnyFields): ...

    class SignatureDef(_AnyFields): ...

    class SignatureDefMap(_AnyFields): ...

    class SSLConfig(_AnyFields): ...

    class TensorProto(_AnyFields): ...
else:
    from tensorflow.core.example.example_pb2 import Example
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.core.protobuf.config_pb2 import ConfigProto, RunOptions
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    from tensorflow_serving.apis.classification_pb2 import (
        ClassificationRequest,
        ClassificationResponse,
        ClassificationResult,
    )
    from tensorflow_serving.apis.get_model_metadata_pb2 import (
        GetModelMetadataRequest,
        GetModelMetadataResponse,
        SignatureDefMap,
    )
    from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
    from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest, MultiInferenceResponse
    from tensorflow_serving.apis.input_pb2 import Input
    from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
    from tensorflow_serving.apis.model_pb2 import ModelSpec
    from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
    from tensorflow_serving.apis.regression_pb2 import RegressionRequest, RegressionResponse, RegressionResult
    from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig
    from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

    from kseq_serving.protocol.unpublished_protos import (
        BatchingParameters,
        MonitoringConfig,
        SerializedInput,
        SSLConfig,
    )

    ServableVersionPolicy = FileSystemStoragePathSourceConfig.ServableVersionPolicy

__all__ = [
    "BatchingParameters",
    "ClassificationRequest",
    "ClassificationResponse",
    "ClassificationResult",
    "ConfigProto",
    "Example",
    "GetModelMetadataRequest",
    "GetModelMetadataResponse",
    "GetModelStatusRequest",
    "GetModelStatusResponse",
    "Input",
    "ModelConfig",
    "ModelServerConfig",
    "ModelSpec",
    "MonitoringConfig",
    "MultiInferenceRequest",
    "MultiInferenceResponse",
    "PredictRequest",
    "PredictResponse",
    "PredictionLog",
    "RegressionRequest",
    "RegressionResponse",
    "RegressionResult",
    "ReloadConfigRequest",
    "ReloadConfigResponse",
    "RunOptions",
    "SSLConfig",
    "SavedModel",
    "SerializedInput",
    "ServableVersionPolicy",
    "SignatureDef",
    "SignatureDefMap",
    "TensorProto",
]
