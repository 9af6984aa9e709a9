"""kseq-serve: serves SavedModels over TensorFlow Serving's gRPC and REST protocol.

The package knows a SavedModel and TensorFlow Serving's protocol buffers and nothing else, so a client cannot tell
it from ``tensorflow_model_server``. Its layers, each importing only what stands before it:

- ``errors``, ``flags``, ``model_config``: what the server is told, and how it says no;
- ``op_libraries``, ``xla``, ``session_options``, ``session``: one SavedModel in TensorFlow's own session;
- ``dtypes``, ``tensors``, ``signature``: names and tensors in, names and tensors out;
- ``lifecycle``, ``servable``, ``manager``, ``version_source``, ``warmup``, ``core``: which versions are served;
- ``predict``, ``metadata``, ``status``: the data plane, one module a call;
- ``strict_json``, ``json_reader``, ``json_writer``, ``json_excerpt``, ``json_request``, ``json_response``, ``rest``,
  ``http_server``: the REST adapter;
- ``grpc_service``: the gRPC adapter;
- ``server``, ``main``: the process.

``protos`` holds the messages that all of them pass on.
"""
