"""kseq-serve: serves SavedModels over TensorFlow Serving's gRPC and REST protocol.

The package knows a SavedModel and TensorFlow Serving's protocol buffers and nothing else, so a client cannot tell
it from ``tensorflow_model_server``. Its layers, each importing only what stands before it:

- ``errors``, ``flags``, ``model_config``: what the server is told, and how it says no;
- ``op_libraries``, ``xla``, ``session``, ``tensors``: one SavedModel in TensorFlow's own session;
- ``lifecycle``, ``servable``, ``manager``, ``version_source``, ``warmup``, ``core``: which versions are served;
- ``predict``, ``metadata``, ``status``: the data plane, one module a call;
- ``json_reader``, ``json_writer``, ``json_tensors``, ``rest``, ``http_server``: the REST adapter;
- ``grpc_service``: the gRPC adapter;
- ``main``: the command line.
"""
