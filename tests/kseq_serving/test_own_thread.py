"""Short runs on the caller's own thread."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from kseq_serving.models import session as sessions
from kseq_serving.models.own_thread import MAX_KINDS, SHORT_S, ShortRuns, always_ends, kind_of
from kseq_serving.models.session import SavedModelSession
from kseq_serving.protocol.protos import ConfigProto
from tests.kseq_serving import toy_models


def grow(x: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(lambda y: tf.reduce_sum(y) < 1e9, lambda y: (y * 2.0,), (x,))[0]


@tf.function(input_signature=[tf.TensorSpec([], tf.int32), tf.TensorSpec([None], tf.float32)])
def add_one(_: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    return x + 1.0


def counted(x: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.For(start=0, limit=5, delta=1, input=[x], body=add_one.get_concrete_function())[0]


def of_dataset(x: tf.Tensor) -> tf.Tensor:
    return x + tf.data.Dataset.from_tensors(1.0).reduce(0.0, lambda total, value: total + value)


@pytest.mark.parametrize(
    ("function", "ends"),
    [
        (lambda x: x / 2 + 2, True),
        (lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: -x), True),
        (grow, False),
        (tf.function(grow, jit_compile=True), False),
        (of_dataset, False),
        (counted, False),
        (lambda x: tf.py_function(lambda y: y, [x], tf.float32), False),
        (lambda x: tf.scan(lambda total, value: total + value, x), False),
    ],
    ids=["arithmetic", "condition", "loop", "compiled loop", "dataset", "counted loop", "Python", "scan"],
)
def test_graphs_that_always_end(function: Callable[[tf.Tensor], tf.Tensor], ends: bool):
    concrete = tf.function(function).get_concrete_function(tf.TensorSpec([None], tf.float32))
    assert always_ends(MetaGraphDef(graph_def=concrete.graph.as_graph_def())) == ends


def test_runs_are_short_as_long_as_the_shortest_of_the_last_ones_is():
    runs, y, z = ShortRuns(), kind_of(("y:0",), [np.ones(1)]), kind_of(("z:0",), [np.ones(1)])
    assert y not in runs
    runs.note(y, 10 * SHORT_S)  # the first one prepares the graph
    assert y not in runs
    runs.note(y, SHORT_S / 2)
    runs.note(y, 10 * SHORT_S)  # another thread held it up
    assert y in runs
    assert z not in runs
    for _ in range(5):
        runs.note(y, 10 * SHORT_S)
    assert y not in runs


def test_the_number_of_kinds_of_runs_is_limited():
    runs = ShortRuns()
    for index in range(MAX_KINDS + 1):
        runs.note(((str(index),), 1), 0.0)
    assert (("0",), 1) in runs
    assert ((str(MAX_KINDS),), 1) not in runs


def test_runs_of_larger_inputs_are_of_another_kind():
    kinds = [kind_of(("y:0",), fed) for fed in ([np.ones(8)], [np.ones(9)], [np.ones(8), np.ones(1)], [np.ones(80)])]
    assert kinds[0] == kinds[1] == kinds[2]
    assert kinds[0] != kinds[3]
    assert kind_of((), [np.array([b"a"], object)]) != kind_of((), [np.array([b"a" * 100], object)])


def test_a_session_runs_short_graphs_on_the_callers_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    toy_models.save_version(tmp_path / "1", 1)
    session = SavedModelSession(str(tmp_path / "1"), ["serve"], ConfigProto())
    signature = session.signatures["serving_default"]
    feeds = {info.name: np.ones(1, np.float32) for info in signature.inputs.values()}
    fetches = [info.name for info in signature.outputs.values()]
    used = []
    for name in ("_run_options", "_own_thread_options"):
        make = getattr(sessions, name)
        monkeypatch.setattr(sessions, name, lambda *given, name=name, make=make: used.append(name) or make(*given))
    first = session.run(feeds, fetches, timeout_s=30.0)
    assert session._short_runs is not None
    session._short_runs.note(kind_of(tuple(fetches), feeds.values()), 0.0)
    second = session.run(feeds, fetches, timeout_s=30.0)
    assert used == ["_run_options", "_own_thread_options"]
    assert {name: value.tolist() for name, value in first.items()} == {
        name: value.tolist() for name, value in second.items()
    }
    session.close()
