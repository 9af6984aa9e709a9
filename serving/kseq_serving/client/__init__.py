"""Client of `kseq-serve` and `tensorflow_model_server`, which needs no TensorFlow.

`grpc_calls` and `rest_calls` build the calls of each protocol without input and output, from `arrays`, `json_arrays`,
`examples` and `messages`. `grpc_transport` and `rest_transport` send them, and `retry` repeats them. `async_client`
combines these parts, and `client` runs it on a thread of its own.
"""

from kseq_serving.client.address import TlsOptions
from kseq_serving.client.async_client import AsyncKseqClient
from kseq_serving.client.call_error import CallError
from kseq_serving.client.client import KseqClient
from kseq_serving.client.model_info import ModelMetadata, Signature, TensorSpec, VersionStatus
from kseq_serving.client.retry import RetryPolicy

__all__ = [
    "AsyncKseqClient",
    "CallError",
    "KseqClient",
    "ModelMetadata",
    "RetryPolicy",
    "Signature",
    "TensorSpec",
    "TlsOptions",
    "VersionStatus",
]
