"""A client for ``kseq-serve`` and ``tensorflow_model_server``; it needs no TensorFlow.

``address`` and ``call_error`` are what a call begins and ends with; ``retry`` is the same for both protocols, which
``grpc_transport`` and ``rest_transport`` speak, each call once; ``messages``, ``answers``, ``arrays``,
``json_arrays`` and ``examples`` are what they send and bring back. ``async_client`` puts them together, and ``client``
runs it on a thread.
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
