"""Stop words, stems and lemmas: against the libraries, in Python and as tables in the graph."""

# ruff: noqa: RUF001

import copy
import gzip
import json
import sys

import keras
import numpy as np
import pytest
import simplemma
import stopwordsiso
import tensorflow as tf
from nltk.stem import LancasterStemmer, PorterStemmer, SnowballStemmer

import kseq
from kseq.text import (
    Lemmatizer,
    SpecialTokens,
    Stemmer,
    StopWords,
    TextNormalizer,
    Vocabulary,
    WordFormTable,
    WordTokenizer,
    read_lemmas,
)
from tests.export.test_saved_model import Session
from tests.test_architecture import FILES, imported_modules
from tests.text.tokenizers import SCRIPTS

ENGLISH = [
    *("running", "Generously", "dogs'", "saw", "flies", "better", "mice", "singing", "caresses", "ponies"),
    *("sky's", "Was", "ITS", "relational"),
]
OTHERS = ["Häuser", "liefen", "chevaux", "mangeaient", "книги", "читали", "gatos", "corriendo", "ja", "-"]
WORDS = sorted({word for text in SCRIPTS for word in text.split()} | {*ENGLISH, *OTHERS})
TABLE = {"NOUN": {"saw": "saw", "flies": "fly"}, "VERB": {"flies": "fly", "was": "be"}}
CONLLU = """# text = I saw saws
1\tI\tI\tPRON\t_\t_\t_\t_\t_\t_
2-3\tsaw'em\t_\t_\t_\t_\t_\t_\t_\t_
2\tsaw\tsee\tVERB\t_\t_\t_\t_\t_\t_
3\tsaw\tsaw\tVERB\t_\t_\t_\t_\t_\t_
4\tsaw\tsee\tVERB\t_\t_\t_\t_\t_\t_
5\tsaw\tsaw\tNOUN\t_\t_\t_\t_\t_\t_
5.1\tempty\tempty\tNOUN\t_\t_\t_\t_\t_\t_
6\tlay\tlie\tVERB\t_\t_\t_\t_\t_\t_
7\tlay\tlay\tVERB\t_\t_\t_\t_\t_\t_
8\tnone\t_\tNOUN\t_\t_\t_\t_\t_\t_
9\t_\t_\tPUNCT\t_\t_\t_\t_\t_\t_

"""


def decoded(tensor) -> list[str]:
    return [text.decode() for text in np.asarray(tensor).tolist()]


LIBRARIES = {
    "porter": (lambda: Stemmer("porter"), lambda: PorterStemmer().stem),
    "lancaster": (lambda: Stemmer("lancaster"), lambda: LancasterStemmer().stem),
    **{
        code: (lambda code=code: Stemmer("snowball", code), lambda name=name: SnowballStemmer(name).stem)
        for code, name in (("en", "english"), ("de", "german"), ("ru", "russian"), ("ar", "arabic"), ("es", "spanish"))
    },
    "lemmas": (lambda: Lemmatizer("en"), lambda: lambda word: simplemma.lemmatize(word, lang="en")),
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_forms_are_those_of_the_library_in_python_and_in_the_graph(name):
    make, library = (each() for each in LIBRARIES[name])
    expected = [library(word) or word for word in WORDS]
    assert make(WORDS) == expected != WORDS
    vocabulary = Vocabulary(WORDS, special_tokens=SpecialTokens(pad="Runnings"))
    table = make.in_graph(vocabulary)
    assert decoded(table.lookup(WORDS)) == expected
    outside = ["runnings", "Runnings", "", "ｘ", "<unk>"]  # a special token among them
    assert decoded(table.lookup(outside)) == outside
    assert decoded(make.in_graph(WORDS, unknown="?").lookup(["runnings", WORDS[3]])) == ["?", expected[3]]


def test_structures_of_words():
    stemmer = Stemmer("porter")
    assert stemmer("dogs") == "dog"
    assert stemmer([["dogs", ""], [], "saws"]) == [["dog", ""], [], "saw"]
    ragged = tf.ragged.constant([["dogs", "x"], [], ["saws"]])
    assert stemmer.in_graph(["dogs", "saws"]).lookup(ragged).to_list() == [[b"dog", b"x"], [], [b"saw"]]
    with pytest.raises(TypeError, match=r"b'dogs' of type bytes"):
        stemmer([b"dogs"])


def test_lemmas_by_part_of_speech():
    lemmatizer = Lemmatizer("en", table=TABLE)
    words = ["saw", "saw", "Saw", "flies", "Was", "saw"]
    tags = ["NOUN", "VERB", "NOUN", "NOUN", "VERB", "X"]
    expected = ["saw", "see", "saw", "fly", "be", "see"]
    assert lemmatizer(words, tags) == expected
    table = lemmatizer.in_graph(sorted(set(words)))
    assert decoded(table.lookup(words, tags)) == expected
    ragged = table.lookup(
        tf.RaggedTensor.from_row_lengths(words, [4, 0, 2]), tf.RaggedTensor.from_row_lengths(tags, [4, 0, 2])
    )
    assert decoded(ragged.flat_values) == expected
    assert decoded(table.lookup(words)) == lemmatizer(words)
    with pytest.raises(ValueError, match="no table for the part of speech 'NOUN'"):
        Lemmatizer("en")("saw", "NOUN")
    with pytest.raises(ValueError, match="no forms that depend on tags"):
        Lemmatizer("en").in_graph(["saw"]).lookup(["saw"], ["NOUN"])
    with pytest.raises(ValueError, match=r"\(2,\), but the words \(1,\)"):
        table.lookup(["saw"], ["NOUN", "VERB"])


def test_lemmas_of_treebanks(tmp_path):
    (tmp_path / "a.conllu").write_text(CONLLU)
    table = read_lemmas(tmp_path / "a.conllu")
    assert table == {
        "PRON": {"I": "I"},
        "VERB": {"saw": "see", "lay": "lay"},
        "NOUN": {"saw": "saw"},
        "PUNCT": {"_": "_"},
    }
    (tmp_path / "a.conllu.gz").write_bytes(gzip.compress(CONLLU.encode()))
    assert read_lemmas(str(tmp_path / "a.conllu.gz")) == table
    assert Lemmatizer("en", table=table)(["Saw", "dogs"], ["NOUN", "NOUN"]) == ["saw", "dog"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"1\tI\tI\tPRON\n", r"line 1 has 4 columns"),
        (b"# a\n1\t\tI\tPRON\t_\t_\t_\t_\t_\t_\n", r"line 2 has an empty form"),
        (b"1\t\xff\tI\tPRON\t_\t_\t_\t_\t_\t_\n", r"line 1 is not UTF-8"),
        (b"# nothing\n", r"has no words"),
    ],
)
def test_refuses_wrong_treebanks(tmp_path, content, says):
    (tmp_path / "a.conllu").write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read_lemmas(tmp_path / "a.conllu")
    with pytest.raises(FileNotFoundError, match=r"none\.conllu"):
        read_lemmas(tmp_path / "none.conllu")


def test_stop_words_are_those_of_the_package():
    for language in ("en", "ru", "hi"):
        listed = sorted(stopwordsiso.stopwords(language))
        words = [*listed, "Kseq", listed[0].upper()]
        stop_words = StopWords.of_language(language)
        assert stop_words.contains(words).numpy().tolist() == [True] * len(listed) + [False, True]
        exact = StopWords(listed, ignore_case=False)
        assert exact.contains(words).numpy().tolist() == [word in listed for word in words]


def test_stop_words_are_removed_from_texts_and_tokens():
    stop_words = StopWords.of_language("en", extra=["dog"], keep=["not"])
    assert stop_words("The dog, it is NOT there-after!").numpy().decode() == " ,   NOT there-after!"
    rows = tf.ragged.constant([["The", "Dog", "barks", "not"], [], ["is"]])
    assert stop_words.remove(rows).to_list() == [[b"barks", b"not"], [], []]
    assert StopWords(["ÉTÉ", "don’t"]).contains(["été", "Don't", "donʼt"]).numpy().all()


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Stemmer("porter", "de"), ValueError, "porter has no language 'de'"),
        (lambda: Stemmer("snowball", "xx"), ValueError, "snowball has no language 'xx'"),
        (lambda: Stemmer("paice"), ValueError, "'paice'"),
        (lambda: Lemmatizer("xx"), ValueError, "simplemma has no language 'xx'"),
        (lambda: Lemmatizer(["en", "xx"]), ValueError, "'xx'"),
        (lambda: Lemmatizer([]), ValueError, r"\[\]"),
        (lambda: Lemmatizer(greedy="no"), ValueError, "'no'"),
        (lambda: Lemmatizer(table={"saw": "see"}), TypeError, "'saw': 'see'"),
        (lambda: Lemmatizer(table={"NOUN": {"saw": ""}}), ValueError, "'NOUN': 'saw' -> ''"),
        (lambda: Lemmatizer(table={"NOUN": {"saw": 3}}), TypeError, "3"),
        (lambda: Lemmatizer(table={}), ValueError, "no lemmas"),
        (lambda: StopWords.of_language("xx"), ValueError, "stopwordsiso has no language 'xx'"),
        (lambda: StopWords.of_language("en", keep=["kseq"]), ValueError, r"\['kseq'\]"),
        (lambda: StopWords([]), ValueError, "no stop words"),
        (lambda: StopWords(["a", ""]), ValueError, "empty, among 2"),
        (lambda: StopWords(["a", 3]), TypeError, "3 of type int"),
        (lambda: StopWords("the"), TypeError, "'the'"),
        (lambda: WordFormTable([], []), ValueError, "0 words and 0 forms"),
        (lambda: WordFormTable(["a", "b"], ["a"]), ValueError, "2 words and 1 forms"),
        (lambda: WordFormTable(["a", "b", "a"], ["a", "b", "c"]), ValueError, "'a' is there twice, at 0 and 2"),
        (lambda: WordFormTable(["a"], [""]), ValueError, "forms, place 0: the string is empty"),
        (lambda: WordFormTable(["a"], [None]), TypeError, "forms, place 0: .* None of type NoneType"),
        (lambda: WordFormTable(["a"], ["b"], unknown=3), TypeError, "3"),
        (lambda: WordFormTable(["a"], ["b"], tagged=[("a", "X")]), ValueError, r"\('a', 'X'\)"),
        (lambda: WordFormTable(["a"], ["b"], tagged=[("a", "X", "c")] * 2), ValueError, r"\('a', 'X'\) is there twice"),
        (lambda: Stemmer().in_graph([]), ValueError, "0 words"),
        (lambda: Stemmer().in_graph(["a", ""]), ValueError, "words, place 1: the string is empty"),
        (lambda: Stemmer().in_graph("dogs"), TypeError, "'dogs'"),
        (lambda: Stemmer().in_graph(["a", "a"]), ValueError, "'a' is there twice"),
    ],
)
def test_refuses_wrong_arguments(make, error, says):
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("nltk", Stemmer),
        ("simplemma", Lemmatizer),
        ("stopwordsiso", lambda: StopWords.of_language("en")),
    ],
)
def test_names_the_missing_package(monkeypatch, package, make):
    monkeypatch.setitem(sys.modules, package, None)
    kseq.text.word_forms.stemmer._stemmer.cache_clear()
    with pytest.raises(ImportError, match=rf'needs the package {package}.*pip install "kseq\[language\]"'):
        make()


def test_kseq_text_is_imported_without_the_packages():
    optional = {"nltk", "num2words", "simplemma", "stopwordsiso"}
    for path in (each for each in FILES if each.startswith("kseq/text/")):
        assert not {name.split(".")[0] for name in imported_modules(path)} & optional, path


def test_what_is_saved_needs_no_package(monkeypatch):
    texts = ["Both dogs, saw"]
    table = Lemmatizer("en", table=TABLE).in_graph(["dogs", "saw"])
    stop_words = StopWords.of_language("en")
    saved = json.dumps([keras.saving.serialize_keras_object(each) for each in (table, stop_words)])
    expected = [decoded(each(texts)) for each in (table, stop_words)]
    for package in ("nltk", "simplemma", "stopwordsiso"):
        monkeypatch.setitem(sys.modules, package, None)
    loaded = [keras.saving.deserialize_keras_object(each) for each in json.loads(saved)]
    assert [decoded(each(texts)) for each in loaded] == expected == [["Both dog, see"], [" dogs, "]]


@pytest.mark.parametrize("make", [lambda: Stemmer("snowball", "de"), lambda: Lemmatizer(("en", "de"), table=TABLE)])
def test_stemmers_and_lemmatizers_are_saved(make):
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(make())))
    assert keras.saving.deserialize_keras_object(saved) == make() == copy.deepcopy(make())


@pytest.mark.long
def test_a_taggers_tags_lead_to_lemmas_in_python_and_in_the_exported_graph(tmp_path):
    words = WordTokenizer(normalizer=TextNormalizer(case="lower")).adapt(["the saw saw flies"])
    encoder = kseq.models.Encoder(words.vocabulary_size, 3, kseq.cells.GRUCell(4))
    model = kseq.models.Tagger(encoder, 2, source_tokenizer=words, class_names=["NOUN", "VERB"])
    lemmatizer = Lemmatizer("en", table=TABLE)
    table = lemmatizer.in_graph(words.vocabulary)
    pairs = model.tag("saw flies unheard")
    expected = lemmatizer([word for word, _ in pairs], [tag for _, tag in pairs])
    assert expected[2] == "unheard"

    def serve(text, tags):
        tokens = words.split(words.normalize(text))
        return {"lemmas": table.lookup(tokens.to_tensor(), tags), "by_form": table.lookup(tokens).to_tensor()}

    archive = keras.export.ExportArchive()
    archive.track(words)
    specs = [tf.TensorSpec([None], tf.string, name="text"), tf.TensorSpec([None, None], tf.string, name="tags")]
    archive.add_endpoint("serving_default", serve, input_signature=specs)
    archive.write_out(tmp_path / "export", verbose=False)
    inputs = {"text": ["Saw flies unheard"], "tags": [[tag for _, tag in pairs]]}
    served = Session(tmp_path / "export", "serving_default")(**inputs)
    assert decoded(served["lemmas"][0]) == expected
    assert decoded(served["by_form"][0]) == lemmatizer(["saw", "flies", "unheard"])
    (mapped,) = tf.data.Dataset.from_tensors((inputs["text"], inputs["tags"])).map(serve)
    np.testing.assert_array_equal(mapped["lemmas"], served["lemmas"])
