"""The last changes to the file `saved_model.pb`."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

_GRADIENT = "_gradient_op_type"


def finish_saved_model(folder: pathlib.Path, optional: Sequence[str], methods: Mapping[str, str]) -> None:
    """Rewrite the graph for serving: without names of gradients, with defaults for optional inputs, and methods.

    An export does not contain the custom gradients. Their names in the nodes would only make TensorFlow warn about each
    of them when it loads the model.

    Args:
        folder: The version's folder.
        optional: Names of inputs that a request may leave out. Their default is a tensor without elements.
        methods: Name of a signature -> TensorFlow Serving's method that it is for, if that is not Predict.
    """
    path = folder / "saved_model.pb"
    saved = SavedModel.FromString(path.read_bytes())
    for meta in saved.meta_graphs:
        for node in _nodes(meta.graph_def):
            node.attr.pop(_GRADIENT, None)
        for key, signature in meta.signature_def.items():
            signature.method_name = methods.get(key, signature.method_name)
            for name in set(optional) & set(signature.inputs):
                info = signature.inputs[name]
                empty = tf.zeros([0] * len(info.tensor_shape.dim), tf.as_dtype(info.dtype)).numpy()
                signature.defaults[name].CopyFrom(tf.make_tensor_proto(empty))
    path.write_bytes(saved.SerializeToString(deterministic=True))
    (folder / "fingerprint.pb").unlink(missing_ok=True)  # it is the fingerprint of the former file


def _nodes(graph: GraphDef) -> Iterator[NodeDef]:
    """Yield the nodes of a graph and of its functions."""
    yield from graph.node
    match graph:
        case GraphDef(library=functions):
            yield from (node for function in functions.function for node in function.node_def)


def read_defaults(folder: pathlib.Path, signature_name: str) -> dict[str, np.ndarray]:
    """Return the defaults of a signature's inputs by name, from the version in `folder`."""
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    defaults = saved.meta_graphs[0].signature_def[signature_name].defaults
    return {name: tf.make_ndarray(value) for name, value in defaults.items()}
