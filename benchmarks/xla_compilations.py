"""The number of programs that XLA has compiled in this process."""

import ctypes
import pathlib

import tensorflow as tf

COUNTER = b"/tensorflow/core/xla_compilations"
DEFAULT_REGISTRY = "_ZN3tsl10monitoring18CollectionRegistry7DefaultEv"
COLLECT = "_ZNK3tsl10monitoring18CollectionRegistry14CollectMetricsERKNS1_21CollectMetricsOptionsE"


def xla_compilations():
    """Return TensorFlow's own count of the programs that XLA has compiled in this process, an int.

    TensorFlow counts them in a metric that Python cannot read. So this calls `CollectionRegistry::CollectMetrics` of
    its C++ library and searches the result, a `std::map<std::string, std::unique_ptr<PointSet>>` in the layout of GNU's
    C++ library. Each call takes 0.2 ms and does not free its result.

    Raises:
        AttributeError: If this TensorFlow has no such function.
    """
    library = ctypes.CDLL(str(pathlib.Path(tf.__file__).parent / "libtensorflow_framework.so.2"))
    default, collect = library[DEFAULT_REGISTRY], library[COLLECT]
    default.restype, collect.restype, collect.argtypes = ctypes.c_void_p, None, [ctypes.c_void_p] * 3
    metrics, with_descriptors = ctypes.c_void_p(), ctypes.c_bool(False)
    collect(ctypes.byref(metrics), default(), ctypes.byref(with_descriptors))
    # The result holds two maps of 48 bytes; the second one has the values. A map's root is 16 bytes after its start.
    nodes = [_word(metrics.value + 48 + 16)]
    while nodes:
        node = nodes.pop()
        if not node:
            continue
        # A node: its colour, parent, left and right child; then the key (address, size, 16 bytes) and the value.
        if ctypes.string_at(_word(node + 32), _word(node + 40)) == COUNTER:
            points = _word(node + 64) + 32  # after the metric's name: the begin and end of a vector of pointers
            return sum(_word(_word(place) + 32) for place in range(_word(points), _word(points + 8), 8))
        nodes += [_word(node + 16), _word(node + 24)]
    return 0  # nothing has been compiled yet


def _word(address):
    return ctypes.c_uint64.from_address(address).value
