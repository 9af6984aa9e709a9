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
    WordPieceTokenizer,
    WordTokenizer,
)
from kseq.text.subwords.byte_pair_merges import byte_alphabet
from tests.text.tokenizers import SCRIPTS, made, random_texts

TEXTS = [
    *SCRIPTS,
    *random_texts(80),
    "''s don't ''''t 'tis 'LL\n\n\n z 12ab3\u00b2  \u00a0x\u3000\u3000y\t\u2028 \u2028a \u0085\u0085b",
    "  two  spaces  ",
]
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
    assert prefixed.detokenize(prefixed.tokenize(["a", "\na"])).numpy().tolist() == [b"a", b"\na"]
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


ALPHABET = byte_alphabet()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].update(type="Unigram"), "kind 'Unigram', but 'BPE' was expected"),
        (lambda c: c.pop("model"), "kind None"),
        (lambda c: c["model"].update(byte_fallback=True), "model has byte_fallback=True, but only False"),
        (lambda c: c.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer has type='Whitespace'"),
        (lambda c: c.update(pre_tokenizer=None), "pre_tokenizer has type=None"),
        (lambda c: c.update(normalizer={"type": "Replace"}), "normalizer has type='Replace'"),
        (lambda c: c["model"]["vocab"].update(x9=5), "the id 5 is that of"),
        (lambda c: c["model"]["vocab"].update(x9=9999), "the id .* is missing"),
        (lambda c: c["model"].update(vocab=["a"]), "must be a mapping from tokens to ids"),
        (lambda c: c["model"]["merges"].append(["q", "\u0120"]), r"the token 'q\u0120' is not in the vocabulary"),
        (lambda c: c["model"]["merges"].append("three parts here"), "expected two tokens"),
        (lambda c: c["model"]["merges"].reverse(), "Merge .* make"),
        (lambda c: c["added_tokens"].append({"id": 0, "content": "New", "special": False}), "added tokens .'New'."),
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
    for content, message in ((b"{", "is not JSON"), (b"[1]", "holds a list"), (b'{"a": 1, "a": 2}', "has 'a' twice")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            BytePairTokenizer.from_file(path)
    with pytest.raises(FileNotFoundError, match=r"nowhere.json"):
        WordPieceTokenizer.from_file(tmp_path / "nowhere.json")
    (tmp_path / "vocab.txt").write_text("[UNK]\na\nb\na\n")
    with pytest.raises(ValueError, match="line 4: the token 'a' is already at 2"):
        WordPieceTokenizer.from_file(tmp_path / "vocab.txt")
    with pytest.raises(ValueError, match="no token for the byte 0"):
        BytePairTokenizer(["a"], [])
    model = made("SentencePieceTokenizer")._model
    for content, message in (
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
    with pytest.raises(ValueError, match=r"vocabulary_size"):
        cls.train(SCRIPTS, 10, progress=False)


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
