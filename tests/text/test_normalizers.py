"""Normalizers: their contract, and each one against Python's libraries."""

# ruff: noqa: RUF001

import copy
import html
import pickle
import random
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf
from tokenizers import normalizers as hugging_face

import kseq
from kseq.text import (
    BertNormalizer,
    DatesToWords,
    ExpandContractions,
    FilterCharacters,
    Normalizer,
    NormalizerSequence,
    NumbersToWords,
    ReplaceDates,
    ReplaceNumbers,
    StopWords,
    StripAccents,
    TextNormalizer,
    Tokenizer,
    UnescapeHTML,
    WordFormTable,
)
from tests.export.test_saved_model import Session
from tests.support import operations_not_of_tensorflow
from tests.text.tokenizers import MAKERS, SCRIPTS, made, random_texts

NORMALIZERS = {
    "BertNormalizer": BertNormalizer(),
    "DatesToWords": DatesToWords(order="DMY"),
    "ExpandContractions": ExpandContractions(),
    "FilterCharacters": FilterCharacters(categories=["P", "Sc"], action="isolate", keep="-]^\\"),
    "NormalizerSequence": NormalizerSequence(
        [UnescapeHTML(), NormalizerSequence([ExpandContractions(table={"im": "in dem"})]), TextNormalizer(case="lower")]
    ),
    "NumbersToWords": NumbersToWords(largest=10**6),
    "ReplaceDates": ReplaceDates(months=["mai"], placeholder=r"\1"),
    "ReplaceNumbers": ReplaceNumbers(),
    "StopWords": StopWords(["They", "ALLE", "tous", "и"]),
    "StripAccents": StripAccents(),
    "TextNormalizer": TextNormalizer(case="fold"),
    "UnescapeHTML": UnescapeHTML(strip_tags=True),
    "WordFormTable": WordFormTable(
        ["sure", "\t", "Würde"], ["safe", "\x00", "würd"], tagged=[("sure", "ADV", "surely")]
    ),
}
every_normalizer = pytest.mark.parametrize("name", NORMALIZERS)
EXAMPLES = [
    "I’m sure they WON'T say &quot;caf&eacute;&quot; on 3 Mai 2019, im Haus.",
    "<p>21st of 1,234.50 &#38; -7</p> 2019-05-03 \\1 &#xD800;&#9999999999999;",
    "'don't' 'tis &amp;lt; <a '<b> <!-- 5 <script>",
]


def decoded(tensor) -> list[str]:
    return [text.decode() for text in np.asarray(tensor).tolist()]


@pytest.fixture(scope="module")
def texts(nasty_texts) -> list[bytes]:
    short = [text for text in nasty_texts if len(text) < 2000]
    return [*short, *(text.encode() for text in (*EXAMPLES, *SCRIPTS, *random_texts(40)))]


def test_every_normalizer_is_here():
    public = [getattr(kseq.text, name) for name in kseq.text.__all__]
    classes = {each.__name__ for each in public if isinstance(each, type) and issubclass(each, Normalizer)}
    assert classes - {"Normalizer"} == set(NORMALIZERS)


@every_normalizer
def test_files_copies_and_tokenizers_keep_everything(name, tmp_path):
    normalizer = NORMALIZERS[name]
    saved = keras.saving.serialize_keras_object(normalizer)
    for again in (
        keras.saving.deserialize_keras_object(saved),
        pickle.loads(pickle.dumps(normalizer)),
        copy.deepcopy(normalizer),
    ):
        assert again == normalizer
        assert decoded(again(EXAMPLES)) == decoded(normalizer(EXAMPLES))
    tokenizer = kseq.text.ByteTokenizer(normalizer=normalizer)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.fingerprint == tokenizer.fingerprint != kseq.text.ByteTokenizer().fingerprint
    np.testing.assert_array_equal(loaded(EXAMPLES)[0], tokenizer(EXAMPLES)[0])


def test_chains_are_copied_with_functions_that_are_not_registered():
    @keras.saving.register_keras_serializable(package="elsewhere", name="stripped")
    def stripped(text):
        return tf.strings.strip(text)

    tokenizer = kseq.text.ByteTokenizer(normalizer=NormalizerSequence([NormalizerSequence([stripped])]))
    keras.saving.get_custom_objects().pop("elsewhere>stripped")
    for each in (copy.copy(tokenizer), copy.copy(tokenizer._normalizer)):  # by the same way as pickles
        assert each([" a "])[0].shape == (1, 1) if isinstance(each, Tokenizer) else each(" a ").numpy() == b"a"


@every_normalizer
def test_any_shape_and_kind_of_text(name):
    normalizer = NORMALIZERS[name]
    expected = normalizer(EXAMPLES).numpy()
    for number, text in enumerate(EXAMPLES):
        assert normalizer(text).numpy() == normalizer(text.encode()).numpy() == expected[number]
    ragged = tf.ragged.constant([EXAMPLES[:2], [], EXAMPLES[2:]])
    np.testing.assert_array_equal(normalizer(ragged).flat_values, expected)
    matrix = np.array(EXAMPLES[:2], object)[:, None]
    np.testing.assert_array_equal(normalizer(matrix), expected[:2, None])
    assert normalizer([]).shape == (0,)
    with pytest.raises(TypeError, match="dtype string, of any shape, got 3"):
        normalizer(3)


class Steps(tf.Module):
    """All normalizers in one graph, whose export takes as long as that of one."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serve(self, text):
        return {name: normalizer(text) for name, normalizer in NORMALIZERS.items()}


@pytest.mark.long
def test_eager_data_and_exported_graphs_answer_equally(texts, tmp_path):
    expected = {name: normalizer(texts).numpy() for name, normalizer in NORMALIZERS.items()}
    for name, answers in expected.items():  # valid UTF-8, whatever the bytes
        assert len(decoded(answers)) == len(texts), name
    steps = Steps()
    tf.saved_model.save(steps, tmp_path / "export", signatures={"serving_default": steps.serve})
    server = Session(tmp_path / "export", "serving_default")
    served, nothing = server(text=texts), server(text=[])
    mapped = next(iter(tf.data.Dataset.from_tensor_slices(texts).batch(len(texts)).map(steps.serve)))
    loaded = tf.saved_model.load(tmp_path / "export").signatures["serving_default"](text=tf.constant(texts))
    for name, answers in expected.items():
        for got in (mapped[name], loaded[name], served[name]):
            np.testing.assert_array_equal(got, answers, err_msg=name)
        assert nothing[name].shape == (0,)
    # Those of tensorflow-text, which TensorFlow Serving links.
    assert operations_not_of_tensorflow(server.session.graph) == {"NormalizeUTF8", "CaseFoldUTF8"}


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_tokenizer_takes_a_chain(name):
    chain = NormalizerSequence([UnescapeHTML(), ExpandContractions(), TextNormalizer(form="NFC")])
    config = {**made(name).get_config(), "normalizer": keras.saving.serialize_keras_object(chain)}
    tokenizer = type(made(name)).from_config(config)
    plain = ["All men do not agree & do.", "WILL NOT"]
    got, expected = tokenizer(["All  men don&rsquo;t agree &amp; do.", "WON&#39;T"]), tokenizer(plain)
    np.testing.assert_array_equal(got[0], expected[0])


def test_accents_off():
    texts = [*SCRIPTS, "Élève, ñandú, Ångström, ﬁ, й ё, が, ά, ø"]

    def reference(text):
        kept = (each for each in unicodedata.normalize("NFD", text) if not 0x300 <= ord(each) <= 0x36F)
        return unicodedata.normalize("NFC", "".join(kept))

    assert decoded(StripAccents()(texts)) == [reference(text) for text in texts]
    theirs = hugging_face.Sequence(
        [hugging_face.NFD(), hugging_face.Replace(hugging_face_mark(), ""), hugging_face.NFC()]
    )
    assert decoded(StripAccents(marks="all")(texts)) == [theirs.normalize_str(text) for text in texts]
    with pytest.raises(ValueError, match="'some'"):
        StripAccents(marks="some")
    assert decoded(StripAccents()(["1\ufe0f\u20e3 x\u20d7"])) == ["1\ufe0f\u20e3 x"]


def hugging_face_mark():
    import tokenizers

    return tokenizers.Regex(r"\p{Mn}")


@pytest.mark.parametrize("action", ["remove", "space", "isolate"])
def test_characters_by_category(action):
    texts = [*SCRIPTS, "a-b_c [d] 5€ + ©\t\x00"]
    write = {"remove": "", "space": " ", "isolate": " {} "}[action].format

    def reference(text):
        return "".join(
            write(each) if unicodedata.category(each)[0] in "PS" and each not in "-]" else each for each in text
        )

    assert decoded(FilterCharacters(action=action, keep="-]")(texts)) == [reference(text) for text in texts]
    assert FilterCharacters(categories={"S", "P", "N"}).categories == ("N", "P", "S")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"categories": "P"}, "'P'"),
        ({"categories": []}, r"\[\]"),
        ({"categories": ["Q"]}, "'Q'"),
        ({"categories": {"P", 3}}, "3"),
        ({"action": "drop"}, "'drop'"),
        ({"keep": 3}, "3"),
    ],
)
def test_refuses_wrong_filters(wrong, says):
    with pytest.raises(ValueError, match=says):
        FilterCharacters(**wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't, DON'T, don’t, donʼt!", "Do not, DO NOT, do not, do not!"),
        ("I'm I'M i'm I'd've", "I am I AM i am I would have"),
        ("it's the dog's, WHO'S who's", "it is the dog's, WHO IS who is"),
        ("can't won't shan't ain't", "cannot will not shall not is not"),
        ("'don't' and 'Tis 'em 'emerald", "'do not' and It is them 'emerald"),
        ("They'll've couldn't've Y’ALL’RE", "They will have could not have YOU ALL ARE"),
        ("rock'n'roll o'clock d'Artagnan don'ts", "rock'n'roll o'clock d'Artagnan don'ts"),
        ("shan't've she'dn't y'all've 'Twasn't", "shall not have she would not you all have It was not"),
        ("OK'd rec'd cont'd 'cause'", "Okayed received continued 'cause'"),
        ("don´t don‘t ‘don`t’", "do not do not ‘do not’"),
        ("don't don't\x00don't", "do not do not\x00do not"),
    ],
)
def test_contractions(text, expected):
    assert ExpandContractions()(text).numpy().decode() == expected


def test_contractions_of_a_given_table():
    normalizer = ExpandContractions(table={"Im": "in dem", "wie’s": "wie es", "*'s": "* es", "*la": "* la"})
    french = ExpandContractions(table={"c'*": "ce *", "jusqu'*": "jusque *", "qu'*": "que *"})
    assert french("C’EST JUSQU'ICI. Qu'il c'").numpy().decode() == "CE EST JUSQUE ICI. Que il c'"
    marked = {"déj": "déjà", "क्या": "किम्", "İm": "ben"}
    assert ExpandContractions(table=marked)("Déj, क्या İM").numpy().decode() == "Déjà, किम् BEN"
    assert normalizer("Im immer WIE'S geht's so, damela").numpy().decode() == "In dem immer WIE ES geht es so, dame la"


@pytest.mark.parametrize(
    ("table", "error", "says"),
    [
        ({}, ValueError, "empty"),
        ({"": "a"}, ValueError, "''"),
        ({"a": " "}, ValueError, "' '"),
        ({"a b": "c"}, ValueError, "'a b'"),
        ({"*": "* a"}, ValueError, r"'\*'"),
        ({"*n't": "not"}, ValueError, "both begin"),
        ({"*n't": "* * not"}, ValueError, "both begin or both end with one"),
        ({"c'*": "ce"}, ValueError, "both begin or both end"),
        ({"c'": "ce"}, ValueError, '"c\'"'),
        ({"don't": "a", "Don’t": "b"}, ValueError, "twice, the second time as 'Don’t'"),
        ({"a": 3}, TypeError, "3"),
        (["don't"], TypeError, "don't"),
    ],
)
def test_refuses_wrong_tables(table, error, says):
    with pytest.raises(error, match=says):
        ExpandContractions(table=table)


def test_html_entities_are_pythons():
    numbers = [*range(0x120), 0xD7FF, 0xD800, 0xDFFF, 0xFDD0, 0xFFFE, 0xFFFF, 0x10FFFF, 0x110000, 2**31, 10**30]
    texts = [f"&#{number};&#x{number:x}&#X0{number:X}z" for number in numbers]
    names = [f"&{name} &{name.rstrip(';')}x; &{name[:-1]}" for name in html.entities.html5]
    generator = random.Random(3)
    mixed = ["".join(generator.choices("&#;xX09afltgcopyno AZ<\n", k=20)) for _ in range(300)]
    texts = [*texts, *names, *mixed, "&" + "a" * 40, "&amp" * 9, "&amp;lt;"]
    assert decoded(UnescapeHTML()(texts)) == [html.unescape(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<b>bold</b>ly<br/>new<P>x", "boldly new x"),
        ('a<img alt="5 > 3">b 1 < 2 > 1', "a b 1 < 2 > 1"),
        ("a<!-- <b> -->b<script>if (a<b) {}</script>c", "a b c"),
        ("&lt;b&gt;", "<b>"),
        ("a <3 b <", "a <3 b <"),
    ],
)
def test_tags_off(text, expected):
    assert UnescapeHTML(strip_tags=True)(text).numpy().decode() == expected


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ReplaceDates(months="May"), "'May'"),
        (lambda: ReplaceDates(months=[]), r"\[\]"),
        (lambda: ReplaceDates(months=["May", ""]), "''"),
        (lambda: ReplaceDates(months=["1", "!"]), "'1'"),
        (lambda: NumbersToWords(language=["en"]), r"\['en'\]"),
        (lambda: ReplaceDates(placeholder=3), "3"),
        (lambda: ReplaceNumbers(placeholder=None), "None"),
        (lambda: DatesToWords(order="YMD"), "'YMD'"),
        (lambda: UnescapeHTML(strip_tags="no"), "'no'"),
        (lambda: NormalizerSequence([]), r"\[\]"),
        (lambda: NormalizerSequence([None]), "None"),
    ],
)
def test_refuses_wrong_options(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("wrong", ["abc", 3, TextNormalizer(), [TextNormalizer], ["NFC"], {TextNormalizer()}])
def test_chains_take_lists_of_functions(wrong):
    with pytest.raises(TypeError, match="normalizer"):
        NormalizerSequence(wrong)
