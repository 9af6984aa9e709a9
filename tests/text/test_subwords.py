"""Subword tokenizers against the libraries that train them, and what is wrong with files."""

import gzip
import itertools
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
import tokenizers

from kseq.text import (
    BertNormalizer,
    BytePairTokenizer,
    ByteTokenizer,
    SentencePieceTokenizer,
    SpecialTokens,
    WordPieceTokenizer,
    WordTokenizer,
)
from kseq.text.subwords.byte_pair_merges import byte_alphabet
from kseq.text.subwords.sentence_piece_model import read_model
from tests.text.tokenizers import SCRIPTS, made, random_texts

TEXTS = [
    *SCRIPTS,
    *random_texts(80),
    "''s don't ''''t 'tis 'LL\n\n\n z 12ab3\u00b2  \u00a0x\u3000\u3000y\t\u2028 \u2028a \u0085\u0085b",
    "  two  spaces  ",
]
BERT = SpecialTokens("[PAD]", "[UNK]", "[CLS]", "[SEP]")
DATA = pathlib.Path(__file__).parents[3] / "shared" / "data" / "multi30k"


def of_byte_pairs(tokenizer: BytePairTokenizer, *, prefix: bool = False) -> tokenizers.Tokenizer:
    """Return the tokenizer of the library with the same vocabulary and merges."""
    config = tokenizer.get_config()
    merges = [tuple(merge.split(" ")) for merge in config["merges"]]
    ids = {token: place for place, token in enumerate(tokenizer.vocabulary.strings)}
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=ids, merges=merges))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    return theirs


def of_word_pieces(tokenizer: WordPieceTokenizer, *, lowercase: bool) -> tokenizers.Tokenizer:
    """Return the tokenizer of the library with the same vocabulary."""
    ids = {token: place for place, token in enumerate(tokenizer.vocabulary.strings)}
    unknown = tokenizer.special_tokens.unknown
    theirs = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token=unknown, max_input_chars_per_word=1000))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(clean_text=lowercase, lowercase=lowercase)
    return theirs


def assert_equal_ids(ours, theirs, texts) -> None:
    got, expected = ours.tokenize(texts).to_list(), [each.ids for each in theirs.encode_batch(texts)]
    assert got == expected


def test_byte_pairs_have_the_ids_of_tokenizers():
    tokenizer = BytePairTokenizer.train([*SCRIPTS, *TEXTS], 450, progress=False)
    assert_equal_ids(tokenizer, of_byte_pairs(tokenizer), TEXTS)
    prefixed = BytePairTokenizer.from_config({**tokenizer.get_config(), "add_prefix_space": True})
    texts = [*SCRIPTS, "", " ", "  a", "a", "\na"]
    assert_equal_ids(prefixed, of_byte_pairs(tokenizer, prefix=True), texts)
    spaces = ["a", "\na", " a", "  a"]  # the ids of the third are those of the first
    assert prefixed.detokenize(prefixed.tokenize(spaces)).numpy().tolist() == [b"a", b"\na", b"a", b" a"]
    assert [of.numpy().tolist() for of in prefixed.offsets(["be", " b"])] == [
        [[0, 0, 1], [0, 1, 0]],
        [[0, 1, 2], [1, 2, 0]],
    ]


def test_word_pieces_have_the_ids_of_tokenizers(tmp_path):
    tokenizer = made("WordPieceTokenizer")
    texts = [*SCRIPTS, "Don't \u4e2d\u6587abc  (x)!\u00a0\u3000y unknown\u2603word"]
    bare = WordPieceTokenizer.from_config({**tokenizer.get_config(), "normalizer": None})
    assert_equal_ids(bare, of_word_pieces(tokenizer, lowercase=False), texts)
    theirs = of_word_pieces(tokenizer, lowercase=True)
    theirs.save(str(tmp_path / "tokenizer.json"))
    loaded = WordPieceTokenizer.from_file(tmp_path / "tokenizer.json")
    assert loaded.special_tokens == tokenizer.special_tokens
    assert_equal_ids(loaded, theirs, [*texts, "\u039f\u0394\u039f\u03a3 \u00c9t\u00c9\x00\x01\ufffd\u200b"])


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("byte_fallback", [True, False])
def test_pieces_have_the_ids_of_sentencepiece(kind, byte_fallback, tmp_path):
    options = {"byte_fallback": byte_fallback, "progress": False}
    tokenizer = SentencePieceTokenizer.train(SCRIPTS, 640 if byte_fallback else 390, kind=kind, **options)
    tokenizer.save_model(tmp_path / "some.model")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "some.model"))
    texts = TEXTS[:60]
    assert tokenizer.tokenize(texts).to_list() == theirs.encode(texts)
    assert SentencePieceTokenizer.from_file(tmp_path / "some.model").tokenize(texts).to_list() == theirs.encode(texts)
    assert tokenizer.lossless is byte_fallback
    known = tokenizer.tokenize(SCRIPTS)
    assert [text.decode() for text in tokenizer.detokenize(known).numpy()] == theirs.decode(known.to_list())


def test_published_models_have_special_tokens_of_their_own(tmp_path):
    """Other ids, no padding, and a normalisation by the model."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SCRIPTS), model_prefix=str(tmp_path / "m"), vocab_size=390, minloglevel=2,
        unk_id=2, bos_id=-1, eos_id=1, pad_id=-1, control_symbols=["<x>"], user_defined_symbols=["<pad>"],
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    tokenizer = SentencePieceTokenizer.from_file(tmp_path / "m.model", add_bos=True)
    pad = theirs.piece_to_id("<pad>")
    assert tokenizer.special_tokens.ids == (pad, 2, 390, 1)  # the begin token is new
    assert tokenizer.vocabulary_size == 391
    assert tokenizer.tokenize(["a<pad>"]).to_list() == [[*theirs.encode("a"), 2]]
    texts = ["  \uff21ll  human <x> \ufb01 ", *SCRIPTS]
    assert tokenizer.tokenize(texts).to_list() == theirs.encode(texts)
    ids, _ = tokenizer(["All human", ""])
    assert ids[1].numpy().tolist() == [390] + [pad] * (ids.shape[1] - 1)
    assert tokenizer.detokenize(ids).numpy().tolist() == [b"All human", b""]
    assert not tokenizer.lossless


def test_byte_pairs_of_files(tmp_path):
    theirs = of_byte_pairs(made("BytePairTokenizer"))
    theirs.normalizer = tokenizers.normalizers.NFC()
    theirs.save(str(tmp_path / "tokenizer.json"))
    theirs.model.save(str(tmp_path))
    loaded = BytePairTokenizer.from_file(tmp_path / "tokenizer.json")
    assert_equal_ids(loaded, theirs, ["e\u0301 \u00e9 All human"])
    pair = BytePairTokenizer.from_file(
        tmp_path / "vocab.json", tmp_path / "merges.txt", normalizer=loaded._normalizer, end="<|end|>"
    )
    assert pair.eos_id == loaded.vocabulary_size  # the file lacks it
    assert pair.tokenize(SCRIPTS).to_list() == loaded.tokenize(SCRIPTS).to_list()


def test_word_pieces_of_a_vocabulary_file(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "ete", "##s", "!"]) + "\n")
    tokenizer = WordPieceTokenizer.from_file(path, normalizer=BertNormalizer(), add_bos=True, add_eos=True)
    assert tokenizer(["\u00c9t\u00e9s! [SEP] \u03a9"])[0].numpy().tolist() == [[3, 5, 6, 7, 2, 2, 2, 2, 4]]
    assert tokenizer.detokenize([[3, 5, 6, 7, 2, 4, 0]]).numpy() == [b"etes ! [UNK]"]
    assert tokenizer.detokenize([[5, 2]], replacements=[["", "x"]]).numpy() == [b"ete x"]


def test_long_words_are_counted_in_characters(tmp_path):
    ours = WordPieceTokenizer(["\u0e2a", "##\u0e2a", "\u00fc", "##\u00fc", "a", "##a", "!"], special_tokens=BERT)
    theirs = of_word_pieces(ours, lowercase=False)
    theirs.model.max_input_chars_per_word = 100
    theirs.save(str(tmp_path / "tokenizer.json"))
    words = [letter * number for letter in "\u0e2a\u00fca" for number in (99, 100, 101, 500)]
    texts = [*words, " ".join(words), "!".join(words), "a" * 101 + "\n\u00fc\u00a0a"]
    for tokenizer in (ours, WordPieceTokenizer.from_file(tmp_path / "tokenizer.json", normalizer=None)):
        assert_equal_ids(tokenizer, theirs, texts)
    assert ours.strings(["a " + "\u00fc" * 101], normalized=False).numpy()[0, 1].decode() == "\u00fc" * 101
    in_bytes = WordPieceTokenizer(["\u00fc", "##\u00fc"], max_bytes_per_word=4)
    assert in_bytes.tokenize(["\u00fc" * 2, "\u00fc" * 3]).to_list() == [[4, 5], [in_bytes.unk_id]]


def test_says_what_of_a_tokenizer_json_is_not_applied(tmp_path):
    theirs = of_byte_pairs(made("BytePairTokenizer"))
    theirs.enable_padding()
    theirs.save(str(tmp_path / "tokenizer.json"))
    BytePairTokenizer.from_file(tmp_path / "tokenizer.json")  # rows are padded so
    theirs.enable_padding(length=9)
    theirs.enable_truncation(5)
    theirs.save(str(tmp_path / "tokenizer.json"))
    with pytest.warns(UserWarning, match="truncation .*'max_length': 5"), pytest.warns(UserWarning, match="'Fixed': 9"):
        BytePairTokenizer.from_file(tmp_path / "tokenizer.json")


def sequence(kind, *, last=None, **options):
    first = {"type": kind, "pattern": {"Regex": r"\w"}, "behavior": "Isolated", "invert": False, **options}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [first, last or bytes_]}


ALPHABET = byte_alphabet()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].update(type="Unigram"), "kind 'Unigram', but 'BPE' was expected"),
        (lambda c: c.pop("model"), "kind None"),
        (lambda c: c["model"].update(byte_fallback=True), "model has byte_fallback=True, but only False"),
        (lambda c: c.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer has type='Whitespace'"),
        (lambda c: c.update(pre_tokenizer=None), "pre_tokenizer has type=None"),
        (
            lambda c: c.update(pre_tokenizer=sequence("Digits")),
            "a sequence of .'Digits', 'ByteLevel'., but only",
        ),
        (lambda c: c.update(pre_tokenizer=sequence("Split")), "splits by .'Regex': '..w'., but only the patterns"),
        (lambda c: c.update(pre_tokenizer=sequence("Split", behavior="Removed")), "Split has behavior='Removed'"),
        (lambda c: c["model"].update(ignore_merges=True, merges=c["model"]["merges"][:-3]), "3 tokens that no merge"),
        (lambda c: c.update(normalizer={"type": "Replace"}), "normalizer has type='Replace'"),
        (lambda c: c["model"]["vocab"].update(x9=5), "the id 5 is that of"),
        (lambda c: c["model"]["vocab"].update(x9=9999), "the id .* is missing"),
        (lambda c: c["model"].update(vocab=["a"]), "must be a mapping from tokens to ids"),
        (lambda c: c["model"]["merges"].append(["q", "\u0120"]), r"the token 'q\u0120' is not in the vocabulary"),
        (lambda c: c["model"]["merges"].append("three parts here"), "expected two tokens"),
        (lambda c: c["model"]["merges"].reverse(), "Merge .* make"),
        (lambda c: c["added_tokens"].append({"id": 0, "content": "New", "special": False}), "added tokens .'New'."),
        (lambda c: c["added_tokens"].append({}), "json': added_tokens has .*, but expected a content"),
        (lambda c: c["added_tokens"].append({"content": "a"}), "json': added_tokens has .* an id"),
        (lambda c: c.update(added_tokens=["x"]), "json': added_tokens has 'x', but expected a list of objects"),
        (lambda c: c.update(added_tokens={"x": 1}), "json': added_tokens has .'x': 1., but expected a list"),
        (lambda c: c.update(pre_tokenizer="x"), "json': pre_tokenizer is 'x', but expected an object"),
        (lambda c: c.update(pre_tokenizer={"type": "Sequence", "pretokenizers": ["x"]}), "pretokenizers=.'x'., but"),
        (lambda c: c.update(normalizer="x"), "json': normalizer is 'x', but expected an object"),
        (lambda c: c["model"].update(merges=5), "json': merges is 5, but expected a list"),
        (lambda c: c["model"]["merges"].append(["a", "\u00ff"]), "spells the byte 0xFF"),
    ],
)
def test_says_what_is_wrong_with_a_tokenizer_json(change, message, tmp_path):
    content = json.loads(of_byte_pairs(made("BytePairTokenizer")).to_str())
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        BytePairTokenizer.from_file(tmp_path / "tokenizer.json")


def test_says_what_is_wrong_with_files(tmp_path):
    path = tmp_path / "some.json"
    deep = b"[" * 100_000
    for content, message in (
        (deep, "nested too deeply"),
        (b"{", "is not JSON"),
        (b"[1]", "holds a list"),
        (b'{"a": 1, "a": 2}', "has 'a' twice"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            BytePairTokenizer.from_file(path)
    with pytest.raises(ValueError, match=r"'begin': '<s>'., but the file 'some.model' names these tokens itself"):
        SentencePieceTokenizer.from_file("some.model", begin="<s>")
    with pytest.raises(FileNotFoundError, match=r"nowhere.json"):
        WordPieceTokenizer.from_file(tmp_path / "nowhere.json")
    (tmp_path / "vocab.txt").write_text("[UNK]\na\nb\na\n")
    with pytest.raises(ValueError, match="line 4: the token 'a' is already at 2"):
        WordPieceTokenizer.from_file(tmp_path / "vocab.txt")
    with pytest.raises(ValueError, match="no token for the byte 0"):
        BytePairTokenizer(["a"], [])
    with pytest.raises(ValueError, match=r"merges must be a list of pairs .* None"):
        BytePairTokenizer(["a"], None)
    with pytest.raises(ValueError, match="word_pattern='gpt4', but it must be one of"):
        BytePairTokenizer(["a"], [], word_pattern="gpt4")
    model = made("SentencePieceTokenizer")._model
    twice, one_id = read_model(model, "model"), read_model(model, "model")
    twice.pieces.extend(twice.pieces[-1:])
    one_id.trainer_spec.bos_id = one_id.trainer_spec.eos_id
    for content, message in (
        (twice.SerializeToString(), "there twice"),
        (one_id.SerializeToString(), r"'</s>' is both bos_id and eos_id .3.*Set trainer_spec.eos_id = -1"),
        (b"", "no pieces"),
        (b"no model at all", "not a SentencePiece model"),
        (model[:-3], "cut"),
    ):
        (tmp_path / "some.model").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            SentencePieceTokenizer.from_file(tmp_path / "some.model")


@pytest.mark.parametrize("cls", [BytePairTokenizer, SentencePieceTokenizer, WordPieceTokenizer])
def test_says_what_cannot_be_trained(cls):
    for texts, error, message in (
        ([], ValueError, "no text, or only empty ones"),
        (["", ""], ValueError, "no text, or only empty ones"),
        ([1, 2], TypeError, "Expected text of dtype string"),
        ("abc", TypeError, "Put a single text into a list"),
        (itertools.chain(["a"] * 2000, [3]), TypeError, "Expected text"),  # in the middle of the library's work
        (pathlib.Path("nowhere.txt"), FileNotFoundError, "no text file 'nowhere.txt'"),
    ):
        with pytest.raises(error, match=message):
            cls.train(texts, 500, progress=False)
    with pytest.raises(NotImplementedError, match=rf"{cls.__name__}.train\(texts, vocabulary_size="):
        made(cls.__name__).adapt(["a"])
    for wrong in (10, -1, 2**40):
        with pytest.raises(ValueError, match=r"vocabulary_size"):
            cls.train(SCRIPTS, wrong, progress=False)
    with pytest.raises(TypeError, match=rf"{cls.__name__}.train got the arguments .'add_eof'.*'add_eos'"):
        cls.train([], 500, add_eof=True)
    if cls is not SentencePieceTokenizer:
        with pytest.raises(ValueError, match="min_count must be from 0 to"):
            cls.train(SCRIPTS, 500, min_count=-1, progress=False)


def test_trains_on_files_and_datasets(tmp_path, capsys):
    with gzip.open(tmp_path / "texts.gz", "wb") as file:
        file.write("\r\n".join(SCRIPTS).encode())
    expected = made("BytePairTokenizer").get_config()["merges"]
    normalizer = made("BytePairTokenizer")._normalizer
    for texts in (tmp_path / "texts.gz", tf.data.Dataset.from_tensor_slices(SCRIPTS)):
        trained = BytePairTokenizer.train(texts, 400, normalizer=normalizer, progress=True)
        assert trained.get_config()["merges"] == expected
    assert "17/" in capsys.readouterr().out


def test_bytes_that_are_not_utf8_stay_if_asked(nasty_texts):
    kept = ByteTokenizer(invalid="keep")
    assert kept.detokenize(kept(nasty_texts[-8:])[0]).numpy().tolist() == nasty_texts[-8:]
    assert ByteTokenizer()([b"\xff"])[0].numpy().tolist() == [[4 + byte for byte in "\ufffd".encode()]]
    assert ByteTokenizer().detokenize([[4 + 0xC3, 4 + 65]]).numpy() == ["\ufffdA".encode()]
    with pytest.raises(NotImplementedError, match="Leave adapt out"):
        kept.adapt(["a"])
    with pytest.raises(ValueError, match="invalid must be one of"):
        ByteTokenizer(invalid="drop")


WITHOUT = """
import sys
sys.modules["tensorflow_text"] = None
import kseq.text as text
normalizer = text.TextNormalizer(form=None, case="lower")
print(text.WordTokenizer(normalizer=normalizer).adapt(["A b"]).tokenize(["b"]).to_list())
print(text.ByteTokenizer()(["a"])[0].numpy(), text.SentenceSplitter()(["A! B"]).to_list())
for call in (lambda: text.TextNormalizer()(["a"]), lambda: text.WordPieceTokenizer(["a"]),
             lambda: text.SentencePieceTokenizer.train(["a b c"] * 9, 265, progress=False)):
    try:
        call()
    except ImportError as error:
        print('pip install "kseq[text]"' in str(error))
"""


@pytest.mark.long
def test_without_tensorflow_text_the_rest_works():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:5] == ["[[5]]", "[[101]] [[b'A!', b'B']]", "True", "True", "True"], done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the captions are not here")
@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_ten_thousand_captions_have_equal_ids(language):
    with gzip.open(DATA / f"train.{language}.gz", "rt", encoding="utf-8") as file:
        texts = [line.removesuffix("\n") for line in itertools.islice(file, 10_000)]
    pairs = BytePairTokenizer.train(texts, 6000, progress=False)
    assert_equal_ids(pairs, of_byte_pairs(pairs), texts)
    assert [text.decode() for text in pairs.detokenize(pairs.tokenize(texts)).numpy()] == texts
    pieces = WordPieceTokenizer.train(texts, 6000, progress=False)
    assert_equal_ids(pieces, of_word_pieces(pieces, lowercase=False), texts)
    for kind in ("unigram", "bpe"):
        sentences = SentencePieceTokenizer.train(texts, 4000, kind=kind, progress=False)
        theirs = sentencepiece.SentencePieceProcessor(model_proto=sentences._model)
        assert sentences.tokenize(texts).to_list() == theirs.encode(texts)
        assert [text.decode() for text in sentences.detokenize(sentences.tokenize(texts)).numpy()] == texts


def test_adapt_reads_files(tmp_path):
    (tmp_path / "texts.txt").write_text("a b\nb\n")
    assert WordTokenizer().adapt(tmp_path / "texts.txt").vocabulary.strings[4:] == ("b", "a")
    np.testing.assert_array_equal(WordTokenizer().adapt([tmp_path / "texts.txt", "b"])(["b a"])[0], [[4, 5]])
