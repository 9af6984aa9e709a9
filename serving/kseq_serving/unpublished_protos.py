"""TensorFlow Serving's messages that the package ``tensorflow-serving-api`` leaves out.

They are needed to read the files that ``--batching_parameters_file``, ``--monitoring_config_file`` and
``--ssl_config_file`` name, and to take a request's examples out of it without parsing them. Their fields are told to
the protocol buffers' library here, name, number and type, as TensorFlow Serving's ``.proto`` files give them.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_Field = descriptor_pb2.FieldDescriptorProto
_WRAPPERS = {
    name: message.DESCRIPTOR.full_name
    for name, message in (
        ("int64?", wrappers_pb2.Int64Value),
        ("string?", wrappers_pb2.StringValue),
        ("bool?", wrappers_pb2.BoolValue),
    )
}
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
}
# Not the package of the originals: another library in the process may know those by the same names.
_PACKAGE = "kseq_serving"

# Message -> (field, number, type); "?" may be absent, "*" is repeated, any other type is a message of this file.
_MESSAGES = {
    "BatchingParameters": (
        ("max_batch_size", 1, "int64?"),
        ("batch_timeout_micros", 2, "int64?"),
        ("max_enqueued_batches", 3, "int64?"),
        ("num_batch_threads", 4, "int64?"),
        ("thread_pool_name", 5, "string?"),
        ("allowed_batch_sizes", 6, "int64*"),
        ("pad_variable_length_inputs", 7, "bool"),
        ("enable_large_batch_splitting", 8, "bool?"),
        ("max_execution_batch_size", 9, "int64?"),
    ),
    "PrometheusConfig": (("enable", 1, "bool"), ("path", 2, "string")),
    "MonitoringConfig": (("prometheus_config", 1, "PrometheusConfig"),),
    "SSLConfig": (
        ("server_key", 1, "string"),
        ("server_cert", 2, "string"),
        ("custom_ca", 3, "string"),
        ("client_verify", 4, "bool"),
    ),
    "SerializedExampleList": (("examples", 1, "bytes*"),),
    "SerializedExampleListWithContext": (("examples", 1, "bytes*"), ("context", 2, "bytes")),
    # A oneof in the original; on the wire the same.
    "SerializedInput": (
        ("example_list", 1, "SerializedExampleList"),
        ("example_list_with_context", 2, "SerializedExampleListWithContext"),
    ),
}


def _describe() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="kseq_serving/unpublished.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for message, fields in _MESSAGES.items():
        entry = file.message_type.add(name=message)
        for name, number, kind in fields:
            label = _Field.LABEL_REPEATED if kind.endswith("*") else _Field.LABEL_OPTIONAL
            scalar = _SCALARS.get(kind.rstrip("*"))
            field = entry.field.add(name=name, number=number, label=label, type=scalar or _Field.TYPE_MESSAGE)
            if scalar is None:
                field.type_name = f".{_WRAPPERS.get(kind, f'{_PACKAGE}.{kind}')}"
    return file


def _build() -> dict[str, Any]:
    pool = descriptor_pool.Default()
    pool.Add(_describe())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_classes = _build()
BatchingParameters = _classes["BatchingParameters"]
MonitoringConfig = _classes["MonitoringConfig"]
SSLConfig = _classes["SSLConfig"]
SerializedInput = _classes["SerializedInput"]
