"""Server of SavedModels over TensorFlow Serving's gRPC and REST protocols, and a client for such servers.

The package depends on SavedModels and TensorFlow Serving's protocol buffers alone, so clients cannot tell the server
from `tensorflow_model_server`. The parts of the server, each importing only those above it:

- `errors`, `flags`, `metrics`: status codes, command-line flags, and counters;
- `ports`: the addresses that the server listens at, and the check that they are free;
- `processes`, `sibling_metrics`: several processes that share the ports, and their metrics added up;
- `protocol`: messages, tensors and dtypes as they are sent;
- `workers`: threads that answer requests;
- `models`: configuration, loading, versions and sessions of models;
- `batching`: runs of several requests as one batch;
- `inference`: Predict, Classify, Regress and MultiInference on a loaded version, and the warm-up;
- `core`: the served models, from the configuration to loaded versions;
- `handlers`: requests, independent of the protocol: find the version, run it, build the response;
- `rest`, `grpc_service`, `grpc_server`: the adapters of both protocols;
- `server`, `main`: the process and its command `kseq-serve`.

`client` calls this server or `tensorflow_model_server`. It imports neither TensorFlow nor any part of the server but
`errors` and the modules of `protocol` that need no TensorFlow.
"""

from kseq_serving.client import AsyncKseqClient, CallError, KseqClient, RetryPolicy, TlsOptions

__all__ = ["AsyncKseqClient", "CallError", "KseqClient", "RetryPolicy", "TlsOptions"]
