"""Vectors of words from files of each format, rows by rule, damaged files, and published names."""

import gzip
import re
import shutil
import struct
import zipfile

import keras
import numpy as np
import pytest

import kseq
from kseq.text.embeddings.fasttext_binary import FASTTEXT_MAGIC, VERSION, FastTextBinary, hashed
from kseq.text.embeddings.vector_file import detected_format

DIM = 3
FILE = {
    "the": [0.25, -1.0, 2.0],
    "König": [1e-3, 5.0, 0.5],
    "new york": [1.0, 2.0, 3.0],  # with a blank
    "cat": [0.0, 0.5, -0.5],
}
WORDS = ["cat", "The", "König", "dog", "new york"]


def lines(separator="\n"):
    return separator.join(f"{word} {' '.join(map(str, vector))}" for word, vector in FILE.items()) + separator


def packed(end=b"\n"):
    rows = [
        word.replace(" ", "_").encode() + b" " + np.array(vector, "<f4").tobytes() + end
        for word, vector in FILE.items()
    ]
    return f"{len(FILE)} {DIM}\n".encode() + b"".join(rows)


FILES = {
    "glove": lambda: lines().encode(),
    "word2vec": lambda: f"{len(FILE)} {DIM}\n{lines()}".encode(),
    "word2vec_binary": packed,
}


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("format", FILES)
def test_the_rows_are_those_of_the_file(tmp_path, format, packing):
    content = FILES[format]()
    path = write(tmp_path / ("vectors" + ".gz" * packing), gzip.compress(content) if packing else content)
    assert detected_format(path) == format
    words = [word.replace(" ", "_") for word in WORDS] if format == "word2vec_binary" else WORDS
    vectors = kseq.text.load_embeddings(path, words, unknown="zeros")
    assert vectors.found.tolist() == [True, False, True, False, True]
    assert vectors.coverage == 0.6
    assert vectors.missing == ("The", "dog")
    np.testing.assert_array_equal(vectors.matrix, np.array([FILE.get(word, [0] * DIM) for word in WORDS], "float32"))


def test_binary_rows_without_a_line_feed(tmp_path):
    vectors = kseq.text.load_embeddings(write(tmp_path / "vectors.bin", packed(end=b"")), ["new_york"])
    np.testing.assert_array_equal(vectors["new_york"], FILE["new york"])


def test_lower_case_forms_stand_in(tmp_path):
    path = write(tmp_path / "vectors", b"the 1 2\nThe 3 4\nnasa 5 6\n")
    vectors = kseq.text.load_embeddings(path, ["The", "the", "NASA", "Dog"], lower_case=True)
    assert vectors.found.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(vectors.matrix[:3], [[3, 4], [1, 2], [5, 6]])


def test_rows_of_unknown_words_and_special_tokens(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal([5, -5], [0.1, 2], (500, 2))
    content = "".join(f"w{place} {a} {b}\n" for place, (a, b) in enumerate(rows)) + "<unk> 9 9\n"
    path = write(tmp_path / "vectors", content.encode())
    tokenizer = kseq.text.WordTokenizer([f"w{place}" for place in range(500)] + [f"x{place}" for place in range(500)])
    drawn = kseq.text.load_embeddings(path, tokenizer)
    assert drawn.matrix.shape == (tokenizer.vocabulary_size, 2)
    assert not drawn.matrix[tokenizer.pad_id].any()
    assert drawn.found.sum() == 500  # a special token is no word of a text
    missing = drawn.matrix[~drawn.found][1:]
    np.testing.assert_allclose(missing.mean(axis=0), [5, -5], atol=0.3)
    np.testing.assert_allclose(missing.std(axis=0), [0.1, 2], rtol=0.15)
    again = kseq.text.load_embeddings(path, tokenizer)
    np.testing.assert_array_equal(again.matrix, drawn.matrix)
    assert not np.array_equal(kseq.text.load_embeddings(path, tokenizer, seed=1).matrix, drawn.matrix)
    mean = kseq.text.load_embeddings(path, tokenizer, unknown="mean")
    np.testing.assert_allclose(mean["x7"], rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(mean["<unk>"], rows.mean(axis=0), rtol=1e-5)


def test_an_embedding_layer_has_the_rows(tmp_path):
    vectors = kseq.text.load_embeddings(write(tmp_path / "vectors", FILES["glove"]()), WORDS)
    layer = vectors.embedding(trainable=False)
    assert not layer.trainable_weights
    np.testing.assert_array_equal(np.asarray(layer(np.array([[2, 0]]))), vectors.matrix[None, [2, 0]])
    encoder = kseq.models.Encoder(len(WORDS), DIM, kseq.cells.GRUCell(2))
    vectors.assign_to(encoder.embedding)
    encoder.build()
    np.testing.assert_array_equal(np.asarray(encoder.embedding.embeddings), vectors.matrix)
    with pytest.raises(ValueError, match="has 5 ids with vectors of size 4, but these are 5 vectors of size 3"):
        vectors.assign_to(keras.layers.Embedding(5, 4))


NGRAMS = {"dim": 2, "buckets": 5, "shortest": 2, "longest": 3}


def fasttext_file(words, *, labels=(), quantised=False, cut=0, wrong=None):
    """Return the bytes of a fastText model as its authors' program writes them, and its matrix."""
    matrix = np.random.default_rng(1).normal(size=(len(words) + NGRAMS["buckets"], NGRAMS["dim"])).astype("<f4")
    if wrong is not None:
        matrix[0, 1] = wrong
    content = struct.pack("<ii", FASTTEXT_MAGIC, VERSION)
    numbers = [NGRAMS["dim"], 5, 5, 1, 5, 1, 2, 2, NGRAMS["buckets"], NGRAMS["shortest"], NGRAMS["longest"], 100]
    content += struct.pack("<12id", *numbers, 1e-4)
    content += struct.pack("<iiiqq", len(words) + len(labels), len(words), len(labels), 100, -1)
    for place, word in enumerate([*words, *labels]):
        content += word.encode() + b"\0" + struct.pack("<qb", 7, place >= len(words))
    content += struct.pack("<?qq", quantised, *matrix.shape) + matrix.tobytes()
    return content[: len(content) - cut], matrix


def test_fasttext_models_give_vectors_of_ngrams(tmp_path):
    words = ["</s>", "zu", "für"]
    content, matrix = fasttext_file(words)
    path = write(tmp_path / "model.bin", content)
    assert detected_format(path) == "fasttext_binary"
    vectors = kseq.text.load_embeddings(path, ["für", "</s>", "a", ""])
    rows = {"für": [2], "a": []}
    rows["für"] += [3 + hashed(each.encode()) % 5 for each in ("<f", "<fü", "fü", "für", "ür", "ür>", "r>")]
    rows["a"] += [3 + hashed(each.encode()) % 5 for each in ("<a", "<a>", "a>")]
    np.testing.assert_allclose(vectors["für"], matrix[rows["für"]].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(vectors["a"], matrix[rows["a"]].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(vectors["</s>"], matrix[0], rtol=1e-6)
    assert vectors.found.all()  # the empty word has the n-gram "<>"


def test_labels_of_supervised_fasttext_models_have_no_rows(tmp_path):
    content, matrix = fasttext_file(["zu", "für"], labels=["__label__a", "__label__b", "__label__c"])
    vectors = kseq.text.load_embeddings(write(tmp_path / "model.bin", content), ["zu"])
    rows = [0] + [2 + hashed(each.encode()) % 5 for each in ("<z", "<zu", "zu", "zu>", "u>")]
    np.testing.assert_allclose(vectors["zu"], matrix[rows].mean(axis=0), rtol=1e-5)
    swapped = fasttext_file(["zu"], labels=["b"])[0].replace(struct.pack("<qb", 7, 1), struct.pack("<qb", 7, 0))
    with pytest.raises(ValueError, match="expected 1 different words, and labels after them"):
        kseq.text.load_embeddings(write(tmp_path / "model.bin", swapped), ["zu"])


def test_words_with_blanks_are_no_wrong_dimensions(tmp_path):
    path = write(tmp_path / "vectors", b". . . 1 2\nat name@domain.com 3  4 \nnew  york 5 6\n")
    vectors = kseq.text.load_embeddings(path, (word for word in (". . .", "at name@domain.com", "new york")))
    np.testing.assert_array_equal(vectors.matrix, [[1, 2], [3, 4], [5, 6]])


def test_the_hash_of_ngrams_is_fasttexts():
    """FNV-1a: for ASCII its published values; bytes above 127 are signed in fastText."""
    assert hashed(b"") == 0x811C9DC5
    assert hashed(b"a") == 0xE40C292C
    assert hashed(b"foobar") == 0xBF9CF968
    assert hashed(b"\xff") == ((0x811C9DC5 ^ 0xFFFFFFFF) * 16777619) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"the 1 2 3\ncat 1 2\n", "line 2: 2 numbers, but the lines before have 3"),
        (b"the 1 2 3\ncat 1.0 2.0 3.0 4.0\n", "line 2: 4 numbers, but the lines before have 3"),
        (b"so 0.1 0.2 0.3\ncat 1 0.2 0.3 0.4\n", "line 2: 4 numbers, but the lines before have 3"),
        (b"so 0.1 0.2 0.3\ndog 1e-05 0.2 0.3 0.5\n", "line 2: 4 numbers, but the lines before have 3"),
        (b"so 1 2 3\nnew york 1 2\n", "line 2: 2 numbers, but the lines before have 3"),
        (b"so\t1\t2\ncat\t3\t4\n", "line 1: the line has tabs, but expected .* separated by blanks"),
        (b"so 1 2\ncat 3 nan\n", "line 2: number 2 of the vector is nan"),
        (b"so 1 2\ncat 1e99 3\n", "line 2: number 1 of the vector is inf"),
        (packed().replace(np.float32(-0.5).tobytes(), np.float32("nan").tobytes()), "word 4: number 3 .* is nan"),
        (fasttext_file(["cat"], wrong=np.inf)[0], "'cat': number 2 of the vector is inf"),
        (b"2 999999999999\n" + packed()[4:], "it says that vectors have 999999999999 numbers"),
        (b"the 1 2 3\nso 1 2 3\ncat 1 x 3\n", "line 3: could not convert"),
        (b"the\ncat\n", "line 1: expected a word and its numbers"),
        (b"3 2\nthe 1 2\ncat 3 4\n", "line 3: the file ends after 2 of 3 words"),
        (packed()[:-9], "word 4: the file ends within word 4 of 4"),
        (packed()[:20] + b"\0", "word 1: the file ends within word 1 of 4|word 2: there is no end"),
        (fasttext_file(["the"], cut=5)[0], "the file ends within its 6 rows"),
        (fasttext_file(["the"], cut=60)[0], "byte .*: the file ends there"),
        (fasttext_file(["the"], quantised=True)[0], "is a quantised fastText model"),
        (b"the 1 2 3\n", "has none of the 1 words"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        kseq.text.load_embeddings(write(tmp_path / "vectors.bin", content), ["cat"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(lines().encode(), mtime=0)[:-12], r"vectors.gz, gzip: Compressed file ended"),
        (lines().encode(), r"vectors.gz, gzip: Not a gzipped file"),
        (gzip.compress(lines().encode(), mtime=0)[:12] + b"\xff" * 99, r"vectors.gz, gzip: "),
    ],
    ids=["truncated", "not packed", "other bytes"],
)
def test_damaged_packed_files_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        kseq.text.load_embeddings(write(tmp_path / "vectors.gz", content), ["cat"], format="glove")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"unknown": "random"}, ValueError, "unknown='random', but it must be one of"),
        ({"format": "txt"}, ValueError, "format='txt', but it must be None or one of 'glove'"),
        ({"seed": -1}, ValueError, "seed=-1 must not be negative"),
        ({"vocabulary": 3}, TypeError, "vocabulary=3, but expected a tokenizer"),
        ({"vocabulary": "cat"}, TypeError, "vocabulary='cat', but expected a tokenizer"),
        ({"source": "glove.7B.100d"}, FileNotFoundError, "not one of the published vectors glove.6B.50d"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, error, message):
    path = write(tmp_path / "vectors", FILES["glove"]())
    with pytest.raises(error, match=message):
        kseq.text.load_embeddings(**{"source": path, "vocabulary": WORDS, **options})


def test_published_vectors_are_fetched_and_unpacked(tmp_path, monkeypatch):
    asked = []

    def get_file(name, origin, file_hash):
        asked.append((name, origin, file_hash))
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("glove.6B.100d.txt", lines())
        return str(tmp_path / name)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    vectors = kseq.text.load_embeddings("glove.6B.100d", WORDS)
    assert vectors.coverage == 0.6
    name, origin, digest = asked[0]
    assert (name, origin) == ("glove.6B.zip", "https://nlp.stanford.edu/data/glove.6B.zip")
    assert len(digest) == 64
    target = tmp_path / "glove.6B.100d.txt"
    target.write_text(lines()[:30])  # what an interrupted copy left
    assert kseq.text.load_embeddings("glove.6B.100d", WORDS).coverage == 0.6
    target.unlink()

    def interrupted(source, target, size):
        target.write(source.read(30))
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kseq.text.load_embeddings("glove.6B.100d", WORDS)
    assert [path.name for path in tmp_path.iterdir()] == ["glove.6B.zip"]


def test_without_a_network_published_vectors_say_so(monkeypatch):
    def get_file(*_, **__):
        raise Exception("URL fetch failure on https://nlp.stanford.edu: None")  # what Keras raises

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    with pytest.raises(ConnectionError, match=r"glove.42B.300d could not be fetched: URL fetch failure"):
        kseq.text.load_embeddings("glove.42B.300d", WORDS)


def test_the_wanted_rows_alone_are_read(tmp_path):
    content, matrix = fasttext_file([f"w{place}" for place in range(100)])
    file = FastTextBinary(write(tmp_path / "model.bin", content))
    ((word, vector),) = file.vectors(frozenset([b"w7"]))
    assert word == b"w7"
    np.testing.assert_allclose(vector, matrix[file.rows_of(b"w7")].mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("format", ["glove", "word2vec_binary", "fasttext_binary"])
def test_progress_is_shown_if_asked_for(tmp_path, capsys, format):
    path = write(tmp_path / "vectors", FILES[format]() if format in FILES else fasttext_file(["cat"])[0])
    kseq.text.load_embeddings(path, WORDS)
    assert not capsys.readouterr().out
    kseq.text.load_embeddings(path, WORDS, verbose=True)
    size = path.stat().st_size
    assert f"{size}/{size}" in re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


def test_an_archive_with_another_hash_is_refused(monkeypatch):
    def get_file(*_, **__):
        raise ValueError("Incomplete or corrupted file detected.")  # what Keras raises

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    with pytest.raises(ValueError, match=r"glove.6B.zip .* is not the archive that is expected: Incomplete"):
        kseq.text.load_embeddings("glove.6B.50d", WORDS)
