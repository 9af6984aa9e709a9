"""The contract of exports: Python, TensorFlow 1's session, with and without XLA, REST and gRPC answer alike.

A new model joins by its line in `tests.contracts.models`; an export of another kind, such as one that reads
texts, by a line in CASES.
"""

import dataclasses
import functools
import os
import pathlib
import pickle
import subprocess
import sys
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq_serving import CallError, KseqClient
from tests.contracts.models import MAKERS, WITH_OTHER_ENCODERS, batch_of
from tests.export.test_saved_model import Session
from tests.kseq_serving.clients import ServerProcess

pytestmark = pytest.mark.server
# Of the models that differ in what they are trained by alone, one is exported.
AS_OTHERS = {
    "SequenceClassifier, every step",
    "Forecaster, quantiles",
    "Forecaster, labels",
    "LanguageModel, Transformer",
}
MODELS = MAKERS | WITH_OTHER_ENCODERS
SIGNATURES = ("serving_default", "serving_xla")
IN_REQUESTS = {"source": "tokens", "source_lengths": "lengths"}
WITH_CHARACTERS = {"source_lengths": "tokens_lengths", "characters": "characters"}
BAD = 1  # the row of a request that may be bad
EMPTY = {"f": {"nan"}, "i": {"-1", "0"}}  # the answer to a bad row, by kinds of dtypes


@dataclasses.dataclass
class Export:
    """An exported model, loaded once in each way.

    Attributes:
        folder: The folder of its version.
        request: Good rows.
        bad: The same rows, with a bad one in place of the row `BAD`.
    """

    folder: pathlib.Path
    request: dict[str, np.ndarray]
    bad: dict[str, np.ndarray]

    @functools.cached_property
    def served(self) -> Callable[..., dict[str, np.ndarray]]:
        return kseq.load_saved_model(self.folder)

    @functools.cached_property
    def sessions(self) -> dict[str, Session]:
        return {name: Session(self.folder, name) for name in SIGNATURES}

    @functools.cached_property
    def answers(self) -> dict[str, np.ndarray]:
        """Python's answer to `request`."""
        return self.served(**self.request)


def exported(path: pathlib.Path, model: keras.Model, **options: object) -> pathlib.Path:
    """Export a model with drawn weights, whose answers differ from row to row."""
    model.build()
    random = np.random.default_rng(1)
    for weight in model.weights:
        drawn = 0.7 * random.normal(size=weight.shape)
        weight.assign(np.abs(drawn) if weight.name == "moving_variance" else drawn)
    sizes: dict = {"buckets": (8,), "batch_sizes": (4,), **options}
    return kseq.export_saved_model(model, path, verbose=False, warmup=False, serving_config=False, **sizes)


def export_of_ids(name: str, path: pathlib.Path) -> Export:
    """Export a model of `MAKERS`, whose requests have ids or features."""
    keras.utils.set_random_seed(7)
    model = MODELS[name]()
    folder, batch = exported(path, model), batch_of(model, name)
    specs = Session(folder, "serving_default").signature.inputs
    names = IN_REQUESTS | (WITH_CHARACTERS if "characters" in specs else {})
    names |= {"source": "features"} if "tokens" not in specs else {}
    request = {names.get(key, key): value for key, value in batch.items() if names.get(key, key) in specs}
    assert set(request) == set(specs)
    key = next(name for name in ("features", "context", "tokens") if name in request)
    values = request[key].copy()
    values[BAD, ..., 0] = np.inf if key == "context" else np.nan if values.dtype.kind == "f" else 999
    return Export(folder, request, {**request, key: values})


def tagger_of_texts(path: pathlib.Path) -> Export:
    """Export a tagger that reads words and characters of texts, with a CRF and a scheme."""
    normalizer = kseq.text.TextNormalizer(case="lower")
    words = kseq.text.WordTokenizer(normalizer=normalizer, split_punctuation=True).adapt(["the cat sat (on) the mat"])
    characters = kseq.text.CharacterTokenizer().adapt(["abcdehmnostABC()"])
    of_characters = kseq.models.CharacterEncoder(characters.vocabulary_size, 3, kseq.cells.GRUCell(3))
    encoder = kseq.models.WordEncoder(words.vocabulary_size, 4, kseq.cells.GRUCell(4), characters=of_characters)
    model = kseq.models.Tagger(
        encoder, 3, class_names=["O", "B-X", "I-X"], crf=True, scheme="BIO",
        source_tokenizer=words, character_tokenizer=characters,
    )  # fmt: skip
    folder = exported(path, model, buckets=(4, 8), batch_sizes=(1, 4))
    texts = ["The cat (sat).", "", "Cat  café\u00a0mat", "the cat sat on the mat, " * 5]
    request = {"text": np.array(texts, object)}
    texts[BAD] = "the cat\u2026"  # three tokens as it is written, and five in its normalised form, "the cat..."
    return Export(folder, request, {"text": np.array(texts, object)})


def captions_of_files(path: pathlib.Path) -> Export:
    """Export a model that reads pictures from PNG files of any size, and writes text."""
    words = kseq.text.WordTokenizer(add_bos=True, add_eos=True).adapt(["a red circle left of two blue squares"])
    encoder = kseq.models.GridEncoder((4, 6, 3), 4, convolutions=(3,))
    decoder = kseq.models.Decoder(words.vocabulary_size, 4, kseq.cells.GRUCell(4), input_feeding=True)
    model = kseq.models.Seq2Seq(encoder, decoder, target_tokenizer=words)
    options = {"inputs": "png", "strategy": kseq.decoding.BeamSearch(beam_width=2, top_paths=2), "max_length": 5}
    folder = exported(path, model, alignments=True, **options)
    random = np.random.default_rng(2)
    pictures = [random.integers(0, 256, size=(*size, 3)).astype("uint8") for size in ((4, 6), (9, 5), (12, 20))]
    files = [tf.io.encode_png(picture).numpy() for picture in pictures]
    request = {"image_bytes": np.array(files, object)}
    bad = {"image_bytes": np.array([files[0], files[1][:60], files[2]], object)}  # a file that is cut off
    return Export(folder, request, bad)


def language_model(path: pathlib.Path) -> Export:
    """Export a language model, whose requests have the options of sampling."""
    keras.utils.set_random_seed(7)
    model = MODELS["LanguageModel"]()
    folder = exported(path, model, max_length=5)
    request = {
        "prompt": np.array([[4, 5, 6], [7, 8, 0], [9, 0, 0], [0, 0, 0]], "int32"),
        "lengths": np.array([3, 2, 1, 0], "int32"),
        "temperature": np.array([1.0, 0.5, 2.0, 1.0], "float32"),
        "top_k": np.array([0, 5, 1, 3], "int32"),
        "top_p": np.array([1.0, 0.9, 0.5, 1.0], "float32"),
        "max_length": np.array([5, 4, 3, 2], "int32"),
        "seed": np.array([1, 2, 3, 4], "int64"),
    }
    bad = {**request, "temperature": np.array([1.0, 0.0, 2.0, 1.0], "float32")}
    return Export(folder, request, bad)


def vectors_of_texts(path: pathlib.Path) -> Export:
    """Export word vectors made of characters, which answer words outside the vocabulary as well."""
    normalizer = kseq.text.TextNormalizer(case="lower")
    words = kseq.text.WordTokenizer(normalizer=normalizer).adapt(["the cat sat on the mat"])
    characters = kseq.text.CharacterTokenizer(normalizer=normalizer).adapt(["abcdehmnost"])
    ngrams = kseq.layers.CharNGramEmbedding(characters.vocabulary_size, 3, min_length=1, max_length=2, buckets=50)
    model = kseq.models.SkipGram(
        words.vocabulary_size, 3, subwords=ngrams, source_tokenizer=words, character_tokenizer=characters
    )
    folder = exported(path, model, buckets=(4, 8), batch_sizes=(1, 4))
    request = {"text": np.array(["Cat", "the", "catt\u00e9", "the mat sat"], object)}
    bad = {"text": np.array(["Cat", "", "catt\u00e9", "the mat sat"], object)}
    return Export(folder, request, bad)


CASES: dict[str, Callable[[pathlib.Path], Export]] = {
    **{name: lambda path, name=name: export_of_ids(name, path) for name in MODELS if name not in AS_OTHERS},
    "LanguageModel": language_model,
    "Tagger of texts": tagger_of_texts,
    "Seq2Seq of PNG files": captions_of_files,
    "SkipGram of texts": vectors_of_texts,
}
# One of each kind of request and answer; `make test-long` exports the others.
QUICK = {
    "Seq2Seq",
    "CTCRecognizer",
    "LanguageModel",
    "Tagger of texts",
    "Forecaster",
}
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in CASES]


@pytest.fixture(scope="module")
def exports(request, tmp_path_factory):
    """Export the models of the tests that will run."""
    parameters = [item.callspec.params for item in request.session.items if item.path == request.path]
    names = {of["name"] for of in parameters}
    base = tmp_path_factory.mktemp("models")
    return {name: make(base / f"model{number}") for number, (name, make) in enumerate(CASES.items()) if name in names}


@pytest.fixture(scope="module")
def server(exports, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("server")
    models = [
        f'config {{ name: "{export.folder.parent.name}" base_path: "{export.folder.parent}" '
        'model_platform: "tensorflow" }'
        for export in exports.values()
    ]
    (scratch / "models.config").write_text(f"model_config_list {{ {' '.join(models)} }}")
    server = ServerProcess(scratch / "log", f"--model_config_file={scratch / 'models.config'}")
    try:
        yield server.wait_ready()
    finally:
        assert server.stop() == 0


def strings(values):
    """Return an array with strings in place of bytes."""
    values = np.asarray(values)
    if values.dtype.kind not in "OSU":
        return values
    decoded = [each.decode() if isinstance(each, bytes) else str(each) for each in values.ravel()]
    return np.array(decoded, "U").reshape(values.shape)


def assert_same(got, expected):
    """Compare answers, of which the padding may be wider in the answer to more rows."""
    assert set(got) == set(expected)
    for name, value in expected.items():
        one, other = strings(got[name]), strings(value)
        if one.shape != other.shape:
            width = min(one.shape[1], other.shape[1])
            for each in (one, other):
                assert set(map(str, each[:, width:].ravel())) <= {"", "0", "0.0", "-1", "nan"}, name
            one, other = one[:, :width], other[:, :width]
        if other.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_all_ways_answer_alike_and_a_bad_row_answers_for_itself(name, exports, server):
    export = exports[name]
    folder, request, bad, answers, served = export.folder, export.request, export.bad, export.answers, export.served
    with_bad = served(**bad)
    for given, expected in ((request, answers), (bad, with_bad)):
        for signature in SIGNATURES:
            assert_same(export.sessions[signature](**given), expected)
        for address in (f"http://127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.port}"):
            with KseqClient(address) as client:
                assert_same(client.predict(folder.parent.name, given), expected)
    assert not any(answers["error"])
    assert [bool(reason) for reason in with_bad["error"]] == [row == BAD for row in range(len(answers["error"]))]
    for key, value in with_bad.items():
        empty = EMPTY.get(value.dtype.kind, {"", "b''"})
        assert key == "error" or set(map(str, value[BAD].ravel())) <= empty, key
    others = np.arange(len(answers["error"])) != BAD
    assert_same(*({key: value[others] for key, value in of.items()} for of in (with_bad, answers)))
    for row in range(len(answers["error"])):
        alone = served(**{key: value[row : row + 1] for key, value in request.items()})
        assert_same(alone, {key: value[row : row + 1] for key, value in answers.items()})


@pytest.mark.parametrize("name", NAMES)
def test_tensors_with_different_rows_are_refused(name, exports, server):
    """It is not known which rows belong together; without a check, one row would be applied to all others."""
    export = exports[name]
    folder, request = export.folder, export.request
    message = "must have the same number of rows"
    for key in request if len(request) > 1 else ():
        for rows in ([0], [0, 1, 2, 3, 0]):
            given = {**request, key: request[key][rows]}
            for signature in SIGNATURES:
                with pytest.raises(tf.errors.InvalidArgumentError, match=message):
                    export.sessions[signature](**given)
            for address in (f"http://127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.port}"):
                with KseqClient(address) as client, pytest.raises(CallError, match=message) as caught:
                    client.predict(folder.parent.name, given)
                assert caught.value.code.name == "INVALID_ARGUMENT"


@pytest.mark.long
@pytest.mark.parametrize("name", ["Seq2Seq, pictures"])
def test_arrays_of_another_size_are_refused_by_row(name, exports, server):
    """A server passes on arrays of any size, which convolutions would answer."""
    export = exports[name]
    folder, answers = export.folder, export.answers
    smaller = {"features": export.request["features"][:, :3]}
    reason = "features has shape [3, 6, 2], but this model reads arrays of shape [4, 6, 2]."
    for address in (f"http://127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.port}"):
        with KseqClient(address) as client:
            refused = client.predict(folder.parent.name, smaller)
            assert list(refused["error"]) == [reason] * 4
            assert set(refused) == set(answers)
            assert np.isnan(refused["scores"]).all()
    with pytest.raises(ValueError, match=r"features has shape \(4, 3, 6, 2\)"):
        export.served(**smaller)


WITHOUT_XLA = """
import ctypes, os, pickle, sys
import tensorflow as tf, tensorflow_text
library = os.path.join(tf.sysconfig.get_lib(), "libtensorflow_cc.so.2")
getattr(ctypes.CDLL(library), "_ZN10tensorflow21DisableXlaCompilationEv")()
v1, found = tf.compat.v1, {}
with open(sys.argv[1], "rb") as file:
    exports = pickle.load(file)
for name, (folder, request) in exports.items():
    with v1.Session(graph=tf.Graph()) as session:
        meta = v1.saved_model.load(session, ["serve"], folder)
        for signature in ("serving_default", "serving_xla"):
            of = meta.signature_def[signature]
            feed = {of.inputs[key].name: value for key, value in request.items()}
            try:
                found[name, signature] = session.run({key: each.name for key, each in of.outputs.items()}, feed)
            except tf.errors.OpError as error:
                found[name, signature] = type(error).__name__
with open(sys.argv[1], "wb") as file:
    pickle.dump(found, file)
"""


@pytest.fixture(scope="module")
def without_xla(exports, tmp_path_factory):
    """Return each answer by model and signature, from a separate process, because XLA cannot be enabled again."""
    file = tmp_path_factory.mktemp("without_xla") / "exports"
    file.write_bytes(pickle.dumps({name: (os.fspath(each.folder), each.request) for name, each in exports.items()}))
    run = subprocess.run([sys.executable, "-c", WITHOUT_XLA, file], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return pickle.loads(file.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_without_xla_the_plain_signature_answers(name, exports, without_xla):
    assert_same(without_xla[name, "serving_default"], exports[name].answers)
    assert isinstance(without_xla[name, "serving_xla"], str)
