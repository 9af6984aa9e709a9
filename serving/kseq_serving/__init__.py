"""kseq-serve: serves SavedModels over TensorFlow Serving's gRPC and REST protocol.

The package knows a SavedModel and TensorFlow Serving's protocol buffers and nothing else, so a client cannot tell
it from ``tensorflow_model_server``. Its layers, each importing only what stands before it:

- ``errors``, ``flags``, ``model_config``, ``metrics``: what the server is told, how it says no, and what it counts;
- ``op_libraries``, ``xla``, ``session_options``, ``session``: one SavedModel in TensorFlow's own session;
- ``batching_options``, ``batching_task``, ``batch_scheduler``, ``batch_arrays``, ``batching_session``: runs that share
  a batch;
- ``dtypes``, ``tensors``, ``run_context``, ``signature``: names and tensors in, names and tensors out;
- ``examples``, ``classify``, ``regress``, ``multi_inference``: the same for signatures over ``tf.train.Example``;
- ``lifecycle``, ``servable``, ``manager``, ``folders``, ``version_source``, ``warmup``, ``core``: which versions are
  served;
- ``predict``, ``inference``, ``metadata``, ``status``, ``reload``: the data plane;
- ``strict_json``, ``json_reader``, ``json_writer``, ``grisu``, ``json_excerpt``, ``json_request``, ``json_examples``,
  ``json_response``, ``rest``, ``http_server``: the REST adapter;
- ``grpc_service``, ``grpc_server``: the gRPC adapter; both adapters hand their calls to ``workers``;
- ``server``, ``main``: the process.

``protos`` holds the messages that all of them pass on, with those of ``unpublished_protos``.

``client`` asks such a server, this one or ``tensorflow_model_server``. It needs neither TensorFlow nor any of the above
but ``errors``, ``tensors``, ``output_filter`` and ``proto_tables``.
"""

from kseq_serving.client import AsyncKseqClient, CallError, KseqClient, RetryPolicy, TlsOptions

__all__ = ["AsyncKseqClient", "CallError", "KseqClient", "RetryPolicy", "TlsOptions"]
