"""Messages of TensorFlow Serving without TensorFlow.

The modules of `tensorflow-serving-api` import all of TensorFlow, which takes seconds and hundreds of megabytes that a
client does not need. These messages have the same fields; a test compares them with the originals.
"""

from __future__ import annotations

from kseq_serving.errors import Code
from kseq_serving.protocol import proto_tables

# The position in the list is the number of the dtype.
_DTYPES = [
    "INVALID",
    "FLOAT",
    "DOUBLE",
    "INT32",
    "UINT8",
    "INT16",
    "INT8",
    "STRING",
    "COMPLEX64",
    "INT64",
    "BOOL",
    "QINT8",
    "QUINT8",
    "QINT32",
    "BFLOAT16",
    "QINT16",
    "QUINT16",
    "UINT16",
    "COMPLEX128",
    "HALF",
    "RESOURCE",
    "VARIANT",
    "UINT32",
    "UINT64",
]

_ENUMS = {
    "Code": {code.name: code.value for code in Code},
    "DataType": {f"DT_{name}": number for number, name in enumerate(_DTYPES)},
    "ModelType": {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2},
    "State": {"UNKNOWN": 0, "START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50},
}

_TENSORS = {
    "Dim": (("size", 1, "int64"), ("name", 2, "string")),
    "TensorShapeProto": (("dim", 2, "Dim*"), ("unknown_rank", 3, "bool")),
    "TensorProto": (
        ("dtype", 1, "DataType"),
        ("tensor_shape", 2, "TensorShapeProto"),
        ("tensor_content", 4, "bytes"),
        ("half_val", 13, "int32*"),
        ("float_val", 5, "float*"),
        ("double_val", 6, "double*"),
        ("int_val", 7, "int32*"),
        ("string_val", 8, "bytes*"),
        ("scomplex_val", 9, "float*"),
        ("int64_val", 10, "int64*"),
        ("bool_val", 11, "bool*"),
        ("dcomplex_val", 12, "double*"),
        ("uint32_val", 16, "uint32*"),
        ("uint64_val", 17, "uint64*"),
    ),
    "TensorInfo": (("name", 1, "string"), ("dtype", 2, "DataType"), ("tensor_shape", 3, "TensorShapeProto")),
    "SignatureDef": (("inputs", 1, "map TensorInfo"), ("outputs", 2, "map TensorInfo"), ("method_name", 3, "string")),
    "SignatureDefMap": (("signature_def", 1, "map SignatureDef"),),
}

_EXAMPLES = {
    "BytesList": (("value", 1, "bytes*"),),
    "FloatList": (("value", 1, "float*"),),
    "Int64List": (("value", 1, "int64*"),),
    "Feature": (("bytes_list", 1, "BytesList"), ("float_list", 2, "FloatList"), ("int64_list", 3, "Int64List")),
    "Features": (("feature", 1, "map Feature"),),
    "Example": (("features", 1, "Features"),),
    "ExampleList": (("examples", 1, "Example*"),),
    "ExampleListWithContext": (("examples", 1, "Example*"), ("context", 2, "Example")),
    "Input": (("example_list", 1, "ExampleList"), ("example_list_with_context", 2, "ExampleListWithContext")),
}

_CALLS = {
    "ModelSpec": (
        ("name", 1, "string"),
        ("version", 2, "int64?"),
        ("version_label", 4, "string"),
        ("signature_name", 3, "string"),
    ),
    "PredictRequest": (
        ("model_spec", 1, "ModelSpec"),
        ("inputs", 2, "map TensorProto"),
        ("output_filter", 3, "string*"),
    ),
    "PredictResponse": (("model_spec", 2, "ModelSpec"), ("outputs", 1, "map TensorProto")),
    "GetModelMetadataRequest": (("model_spec", 1, "ModelSpec"), ("metadata_field", 2, "string*")),
    "GetModelMetadataResponse": (("model_spec", 1, "ModelSpec"), ("metadata", 2, "map any")),
    "StatusProto": (("error_code", 1, "Code"), ("error_message", 2, "string")),
    "GetModelStatusRequest": (("model_spec", 1, "ModelSpec"),),
    "ModelVersionStatus": (("version", 1, "int64"), ("state", 2, "State"), ("status", 3, "StatusProto")),
    "GetModelStatusResponse": (("model_version_status", 1, "ModelVersionStatus*"),),
    "ClassificationRequest": (("model_spec", 1, "ModelSpec"), ("input", 2, "Input")),
    "Class": (("label", 1, "string"), ("score", 2, "float")),
    "Classifications": (("classes", 1, "Class*"),),
    "ClassificationResult": (("classifications", 1, "Classifications*"),),
    "ClassificationResponse": (("result", 1, "ClassificationResult"),),
    "RegressionRequest": (("model_spec", 1, "ModelSpec"), ("input", 2, "Input")),
    "Regression": (("value", 1, "float"),),
    "RegressionResult": (("regressions", 1, "Regression*"),),
    "RegressionResponse": (("result", 1, "RegressionResult"),),
}

_CONFIGURATION = {
    "Latest": (("num_versions", 1, "uint32"),),
    "All": (),
    "Specific": (("versions", 1, "int64*"),),
    "ServableVersionPolicy": (("latest", 100, "Latest"), ("all", 101, "All"), ("specific", 102, "Specific")),
    "LogCollectorConfig": (("type", 1, "string"), ("filename_prefix", 2, "string")),
    "SamplingConfig": (("sampling_rate", 1, "double"),),
    "LoggingConfig": (
        ("log_collector_config", 1, "LogCollectorConfig"),
        ("sampling_config", 2, "SamplingConfig"),
    ),
    "ModelConfig": (
        ("name", 1, "string"),
        ("base_path", 2, "string"),
        ("model_type", 3, "ModelType"),
        ("model_platform", 4, "string"),
        ("model_version_policy", 7, "ServableVersionPolicy"),
        ("version_labels", 8, "map int64"),
        ("logging_config", 6, "LoggingConfig"),
    ),
    "ModelConfigList": (("config", 1, "ModelConfig*"),),
    "ModelServerConfig": (("model_config_list", 1, "ModelConfigList"), ("custom_model_config", 2, "any")),
    "ReloadConfigRequest": (("config", 1, "ModelServerConfig"),),
    "ReloadConfigResponse": (("status", 1, "StatusProto"),),
}

_classes = proto_tables.build("kseq_serving.client", _TENSORS | _EXAMPLES | _CALLS | _CONFIGURATION, _ENUMS)
ClassificationRequest = _classes["ClassificationRequest"]
ClassificationResponse = _classes["ClassificationResponse"]
GetModelMetadataRequest = _classes["GetModelMetadataRequest"]
GetModelMetadataResponse = _classes["GetModelMetadataResponse"]
GetModelStatusRequest = _classes["GetModelStatusRequest"]
GetModelStatusResponse = _classes["GetModelStatusResponse"]
Input = _classes["Input"]
ModelServerConfig = _classes["ModelServerConfig"]
ModelSpec = _classes["ModelSpec"]
PredictRequest = _classes["PredictRequest"]
PredictResponse = _classes["PredictResponse"]
RegressionRequest = _classes["RegressionRequest"]
RegressionResponse = _classes["RegressionResponse"]
ReloadConfigRequest = _classes["ReloadConfigRequest"]
ReloadConfigResponse = _classes["ReloadConfigResponse"]
SignatureDefMap = _classes["SignatureDefMap"]
