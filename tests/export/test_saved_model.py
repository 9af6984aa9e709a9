"""Exported SavedModels, loaded as TensorFlow Serving loads them."""

import functools
import inspect
import json
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import kseq
from tests.export.conftest import TEXTS

pytestmark = pytest.mark.long

v1 = tf.compat.v1


@functools.lru_cache(maxsize=2)  # most tests ask both signatures
def loaded(folder):
    """Return a TensorFlow 1 session with a SavedModel, and the SavedModel's signatures."""
    session = v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        return session, v1.saved_model.load(session, ["serve"], os.fspath(folder)).signature_def


class Session:
    """A signature in a TensorFlow 1 session, as TensorFlow Serving runs it, with inputs and outputs by name."""

    def __init__(self, folder, signature_name):
        self.session, signatures = loaded(folder)
        self.signature = signatures[signature_name]

    def __call__(self, **inputs):
        feeds = {self.signature.inputs[name].name: value for name, value in inputs.items()}
        return self.session.run({name: info.name for name, info in self.signature.outputs.items()}, feeds)


@pytest.fixture(scope="module", params=["serving_default", "serving_xla"])
def served(request, folder):
    return Session(folder, request.param)


@pytest.mark.long
def test_a_session_gives_the_models_own_answers(served, expected, tokenizer):
    outputs = served(text=np.array(TEXTS, object))
    tokens, lengths, scores = expected
    np.testing.assert_array_equal(outputs["tokens"], tokens)
    np.testing.assert_array_equal(outputs["lengths"], lengths)
    np.testing.assert_allclose(outputs["scores"], scores, atol=1e-4)
    np.testing.assert_array_equal(outputs["text"], tokenizer.detokenize(tokens).numpy())
    assert outputs["text"].shape == (len(TEXTS), 2)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_batches_of_any_size(served, expected, count):
    asked = [TEXTS[index % len(TEXTS)] for index in range(count)]
    outputs = served(text=np.array(asked, object))
    np.testing.assert_array_equal(outputs["tokens"], expected[0][[index % len(TEXTS) for index in range(count)]])


@pytest.mark.parametrize("text", [b"\xff\xfe\x80", b"\x00", b"", "é" * 100, "\u202e\u0000\n"])
def test_any_bytes_are_answered(served, text):
    outputs = served(text=np.array([text, "abc"], object))
    alone = served(text=np.array(["abc"], object))
    np.testing.assert_array_equal(outputs["tokens"][1], alone["tokens"][0])


MIXED_LOAD = """
import sys
import numpy as np, tensorflow as tf, tensorflow_text
served = tf.saved_model.load(sys.argv[1]).signatures["serving_xla"]
random = np.random.default_rng(0)
for _ in range(60):
    count = random.integers(0, 12)
    texts = ["abc" * random.integers(0, 9) + "ab"[: random.integers(0, 3)] for _ in range(count)]
    served(text=tf.constant(texts, tf.string))
"""


@pytest.mark.server
def test_compilations_are_bounded(export_small, tokenizer, tmp_path):
    """Under requests of many lengths and batch sizes, XLA dumps one file for each module that it compiles."""
    folder = export_small(tmp_path / "m", source=tokenizer, buckets=(4, 8, 16), batch_sizes=(1, 2, 4))
    environment = {**os.environ, "XLA_FLAGS": f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"}
    run = subprocess.run(
        [sys.executable, "-c", MIXED_LOAD, os.fspath(folder)], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    compiled = list(tmp_path.glob("*answer*after_optimizations.txt"))
    assert 1 < len(compiled) <= 3 * 3


@pytest.mark.long
def test_numeric_signatures_take_tokens_and_lengths(small, export_small, strategy, tmp_path):
    folder = export_small(tmp_path / "m", strategy=strategy, buckets=(4, 8), batch_sizes=(2,), max_length=5)
    ids, lengths = np.array([[4, 5, 6], [5, 0, 0]], "int32"), np.array([3, 1], "int32")
    own = small.decode(ids, lengths, strategy=strategy, max_length=5)
    for name in ("serving_default", "serving_xla"):
        served = Session(folder, name)
        outputs = served(tokens=ids, lengths=lengths)
        assert set(outputs) == {"tokens", "lengths", "scores", "error"}
        np.testing.assert_array_equal(outputs["tokens"], own.tokens)
        # TensorFlow Serving's batching pads with a tensor's first element, to the longest of the batch.
        padded = np.pad(ids, [(0, 0), (0, 4)], constant_values=ids[0, 0])
        padded[1, 1:] = ids[0, 0]
        again = served(tokens=padded, lengths=lengths)
        np.testing.assert_array_equal(again["tokens"], outputs["tokens"])
        np.testing.assert_allclose(again["scores"], outputs["scores"], atol=1e-5)
        full = served(tokens=ids[:1], lengths=np.zeros([0], "int32"))  # no lengths: every row has all columns
        np.testing.assert_array_equal(full["tokens"][0], outputs["tokens"][0])
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="tokens and lengths must have the same number of rows"
        ):
            served(tokens=ids, lengths=lengths[:1])  # it is not known which row the length belongs to


WITHOUT_XLA = """
import ctypes, json, os, sys
import tensorflow as tf, tensorflow_text
library = os.path.join(tf.sysconfig.get_lib(), "libtensorflow_cc.so.2")
getattr(ctypes.CDLL(library), "_ZN10tensorflow21DisableXlaCompilationEv")()
v1, answers = tf.compat.v1, {}
with v1.Session(graph=tf.Graph()) as session:
    meta = v1.saved_model.load(session, ["serve"], sys.argv[1])
    for name in ("serving_default", "serving_xla"):
        signature = meta.signature_def[name]
        try:
            feed = {signature.inputs["text"].name: ["abc"]}
            answers[name] = session.run(signature.outputs["tokens"].name, feed).tolist()
        except tf.errors.OpError as error:
            answers[name] = type(error).__name__
print(json.dumps(answers))
"""


@pytest.mark.server
def test_a_server_without_xla_answers_with_the_plain_signature(folder, expected):
    """In a separate process, because XLA cannot be enabled again."""
    run = subprocess.run([sys.executable, "-c", WITHOUT_XLA, os.fspath(folder)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    answers = json.loads(run.stdout.splitlines()[-1])
    assert answers["serving_default"] == [expected[0][0].tolist()]
    assert isinstance(answers["serving_xla"], str)


@pytest.mark.long
def test_versions_count_up_and_an_export_says_what_it_does(export_small, tmp_path, capsys):
    first = export_small(tmp_path / "m")
    printed = capsys.readouterr().out.splitlines()
    assert [line.removeprefix("export_saved_model: ").rsplit(" (", 1)[0] for line in printed] == [
        "tracing serving_default",
        "tracing serving_xla",
        "writing the graph and the weights",
        "writing warm-up requests",
        f"written to {first}",
    ]
    (tmp_path / "m" / "9").mkdir()
    tenth = export_small(tmp_path / "m", verbose=False, title="Small", examples=[{"tokens": [4, 5]}])
    assert capsys.readouterr().out == ""
    card = json.loads((tenth / "assets.extra" / "kseq_playground.json").read_text())
    assert card == {"title": "Small", "examples": [{"inputs": {"tokens": [4, 5]}}]}
    assert [path.name for path in (first, tenth)] == ["1", "10"]
    assert {path.name for path in (tmp_path / "m").iterdir() if path.is_dir()} == {"1", "9", "10"}
    with pytest.raises(FileExistsError, match="10 exists"):
        export_small(tmp_path / "m", version=10)
    assert kseq.load_saved_model(tmp_path / "m").folder == tenth  # not 9, which is the last in alphabetical order


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": -3}, "version=-3, but a version is a whole number of at least 0"),
        ({"version": "best"}, "version='best'"),
        ({"max_length": 0}, "max_length=0"),
        ({"too_long": "refuse"}, r"too_long='refuse', but it must be one of \('truncate', 'error', 'windows'\)"),
    ],
)
def test_options_out_of_range_are_refused(options, message, model, strategy, tmp_path):
    with pytest.raises(ValueError, match=message):
        kseq.export_saved_model(model, tmp_path / "m", strategy=strategy, **options)
    assert not (tmp_path / "m").exists()


def test_other_tokenizers_are_refused(model, tokenizer, strategy, tmp_path):
    other = kseq.text.CharacterTokenizer().adapt(["abc def ghi"])
    with pytest.raises(ValueError, match="The source tokenizer has 14 ids, but the model reads 8"):
        kseq.export_saved_model(model, tmp_path / "m", strategy=strategy, source=other)
    with pytest.raises(ValueError, match=r"The target tokenizer has {'vocabulary_size': 14"):
        kseq.export_saved_model(model, tmp_path / "m", strategy=strategy, target=other)


def test_one_long_text_does_not_widen_its_batch(folder):
    """One text of a megabyte among two thousand short ones would take 8 GB if padding came before truncation."""
    served = Session(folder, "serving_default")
    outputs = served(text=np.array(["abc" * 350_000] + ["b"] * 2000, object))
    assert outputs["tokens"].shape == (2001, 2, 6)


@pytest.mark.server
def test_a_decoder_that_takes_training_step_by_step(tokenizer, strategy, tmp_path):
    size = tokenizer.vocabulary_size
    made = kseq.models.Seq2Seq(
        kseq.models.Encoder(size, 8, kseq.cells.GRUCell(6), bidirectional=False),
        kseq.models.Decoder(size, 7, kseq.cells.GRUCell(5), input_feeding=True, num_layers=2, residual=True),
    )
    sizes = {"buckets": (8,), "batch_sizes": (2,), "max_length": 5, "warmup": False}
    folder = kseq.export_saved_model(made, tmp_path / "m", strategy=strategy, source=tokenizer, **sizes)
    own = made.decode(*tokenizer(["abc", "b"]), strategy=strategy, max_length=5)
    for name in ("serving_default", "serving_xla"):
        np.testing.assert_array_equal(Session(folder, name)(text=np.array(["abc", "b"], object))["tokens"], own.tokens)


def test_a_model_that_defines_no_serving_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"object cannot be exported as it is. .*one of \['text', 'tokens', 'features'"):
        kseq.export_saved_model(object(), tmp_path / "m", strategy=None)
    assert not (tmp_path / "m").exists()


def test_the_documented_model_with_a_method_of_its_own(tmp_path, monkeypatch):
    """The example in the docstring of `Serving`, run as it is printed."""
    example = textwrap.dedent(inspect.getdoc(kseq.models.Serving).partition("from the request.\n")[2])
    setup, _, call = example.rstrip().rpartition("\n")
    monkeypatch.chdir(tmp_path)
    names = {"keras": keras, "kseq": kseq}
    exec(setup, names)
    expression, _, told = call.partition("  # ")
    assert told == "[30.]"
    assert eval(expression, names).tolist() == [30.0]
    answer = kseq.load_saved_model("models/adding")(values=[[1, 2, 9], [4, 5, 6]], factor=[101, 0.5])
    assert answer["error"].tolist() == ["factor is 101, but it must be at least 0 and at most 100.", ""]
    assert answer["sum"][1] == 7.5


class Duck(tf.Module):
    """A user's own model, not a Keras model, with only the attributes that the export's documentation asks for."""

    pad_id, bos_id, eos_id, source_vocabulary_size, target_vocabulary_size, built = 0, 2, 3, 8, 8, True

    def decode(self, source, source_lengths, *, strategy, max_length):
        def step(tokens, state):
            return 9.0 * tf.one_hot(tf.where(tokens == state, 3, state), 8), state

        return strategy(step, source[:, 0], bos_id=2, eos_id=3, max_length=max_length)


@pytest.mark.long
def test_a_users_own_model_is_served_by_greedy_search_unless_told_otherwise(tmp_path):
    folder = kseq.export_saved_model(Duck(), tmp_path / "m", buckets=(4,), batch_sizes=(2,), max_length=3)
    for name in ("serving_default", "serving_xla"):
        served = kseq.load_saved_model(folder, signature_name=name)(tokens=[[5, 1], [6, 4]], lengths=[2, 1])
        np.testing.assert_array_equal(served["tokens"], [[[5, 3, 0]], [[6, 3, 0]]])


def test_a_failed_export_leaves_nothing(model, tokenizer, tmp_path):
    def broken(*args, **kwargs):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        kseq.export_saved_model(model, tmp_path / "m", strategy=broken, source=tokenizer)
    assert not any((tmp_path / "m").rglob("*"))


@pytest.mark.parametrize("options", [{"buckets": (8, 4)}, {"buckets": ()}, {"batch_sizes": (0, 1)}])
def test_sizes_must_increase(options, model, strategy, tmp_path):
    with pytest.raises(ValueError, match="must be increasing integers of at least 1"):
        kseq.export_saved_model(model, tmp_path / "m", strategy=strategy, **options)


def test_warmup_has_a_request_for_each_bucket_and_batch_size(folder, tokenizer):
    from tensorflow_serving.apis import prediction_log_pb2

    records = tf.data.TFRecordDataset(os.fspath(folder / "assets.extra" / "tf_serving_warmup_requests"))
    shapes = []
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.signature_name == "serving_default"
        texts = tf.make_ndarray(request.inputs["text"])
        lengths = set(tokenizer(texts)[1].numpy().tolist())
        assert len(lengths) == 1
        shapes.append((lengths.pop(), len(texts)))
    assert shapes == [(bucket, size) for bucket in (4, 8, 16) for size in (1, 2, 4)]


@pytest.mark.long
def test_the_folder_can_be_moved_and_loading_says_what_is_missing(export_small, tokenizer, tmp_path):
    """The vocabulary moves with the folder; a server reads it when it loads the model."""
    folder = export_small(tmp_path / "m", source=tokenizer, target=tokenizer)
    served = kseq.load_saved_model(folder)
    before = served(text=["b", "abc"])["text"]
    with pytest.raises(FileNotFoundError, match=r"no SavedModel in .*nothing"):
        kseq.load_saved_model(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"no signature 'x'; it has \['serving_default', 'serving_xla'\]"):
        kseq.load_saved_model(folder, signature_name="x")
    with pytest.raises(ValueError, match=r"Inputs are \['texts'\], but the signature takes text string \(None,\)"):
        served(texts=["a"])
    moved = folder.rename(tmp_path / "elsewhere")
    after = Session(moved, "serving_default")(text=np.array(["b", "abc"], object))["text"]
    assert [text.decode() for text in after[:, 0]] == before[:, 0].tolist()
    assert any(before[:, 0])


@pytest.mark.long
def test_load_saved_model(folder, expected):
    loaded = kseq.load_saved_model(folder.parent)
    outputs = loaded(text=TEXTS)
    np.testing.assert_array_equal(outputs["tokens"], expected[0])
    assert all(isinstance(text, str) for text in outputs["text"].ravel())
    assert loaded(text=[])["text"].shape == (0, 2)


def test_loading_warns_of_nothing(folder, caplog):
    """The model has custom gradients, of which TensorFlow would say at each of them that they are not saved."""
    kseq.load_saved_model(folder)
    assert not caplog.records
