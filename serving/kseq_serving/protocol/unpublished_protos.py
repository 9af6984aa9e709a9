"""Messages of TensorFlow Serving that the package `tensorflow-serving-api` lacks.

The files of `--batching_parameters_file`, `--monitoring_config_file` and `--ssl_config_file` hold some of them. The
others extract the examples of a request without parsing each example. The names, numbers and types of the fields are
those of TensorFlow Serving's `.proto` files.
"""

from __future__ import annotations

from kseq_serving.protocol import proto_tables

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
    "SerializedInput": (
        ("example_list", 1, "SerializedExampleList"),
        ("example_list_with_context", 2, "SerializedExampleListWithContext"),
    ),
}

_classes = proto_tables.build("kseq_serving", _MESSAGES)
BatchingParameters = _classes["BatchingParameters"]
MonitoringConfig = _classes["MonitoringConfig"]
SSLConfig = _classes["SSLConfig"]
SerializedInput = _classes["SerializedInput"]
