"""Files of `tokenizers`: byte pairs with other patterns of words, and Unigram models."""

import io
import json

import pytest
import sentencepiece
import tokenizers

from kseq.text import BytePairTokenizer, SentencePieceTokenizer
from kseq.text.subwords.byte_pair_words import WORD_PATTERNS
from kseq.text.subwords.sentence_piece_model import read_model
from tests.text.test_subwords import TEXTS, assert_equal_ids, of_byte_pairs, sequence
from tests.text.tokenizers import SCRIPTS

# Runs of white space before words, marks and ends of lines; endings in any case; digits; and the long s.
RUNS = [
    "a  b",
    "a  \nb  \nc",
    " \n \n  b",
    "!\n\n  x\r\n",
    "a \t\u00a0",
    "x\u3000\u3000y \x85z",
    "IT'S 'LL '\u017f we're",
    "12345 \u00b23",
    "(a) -b",
]


@pytest.mark.parametrize("word_pattern", ["gpt2", "llama3", "qwen2"])
def test_byte_pairs_of_files_with_word_patterns(word_pattern, tmp_path):
    texts = [*SCRIPTS, *RUNS, *TEXTS[-30:]]
    trained = BytePairTokenizer.train([*SCRIPTS, *RUNS * 3], 450, progress=False, word_pattern=word_pattern)
    theirs = of_byte_pairs(trained)
    pattern = tokenizers.Regex(WORD_PATTERNS[word_pattern].published)
    parts = tokenizers.pre_tokenizers
    theirs.pre_tokenizer = parts.Sequence(
        [parts.Split(pattern, "isolated"), parts.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    theirs.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|reserved|>"])
    content = json.loads(theirs.to_str())
    content["model"]["ignore_merges"] = word_pattern == "llama3"
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    loaded = BytePairTokenizer.from_file(tmp_path / "tokenizer.json")
    assert_equal_ids(loaded, tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")), texts)
    assert loaded.vocabulary_size == 453
    assert BytePairTokenizer.from_config(loaded.get_config()).get_config() == loaded.get_config()
    normalized = [text.decode() for text in loaded.normalize(texts).numpy()]
    assert [text.decode() for text in loaded.detokenize(loaded.tokenize(texts)).numpy()] == normalized


def unigram(charsmap: bytes, normalizer: str | None, *, split: bool) -> tokenizers.Tokenizer:
    """Return a Unigram tokenizer of the library, trained on the scripts."""
    forms, parts = tokenizers.normalizers, tokenizers.pre_tokenizers
    theirs = tokenizers.Tokenizer(tokenizers.models.Unigram())
    steps = {
        "NFKC": forms.NFKC,
        "map": lambda: forms.Precompiled(charsmap),
        "map and runs": lambda: forms.Sequence(
            [forms.Precompiled(charsmap), forms.Strip(left=False), forms.Replace(tokenizers.Regex(" {2,}"), "\u2581")]
        ),
    }
    if normalizer is not None:
        theirs.normalizer = steps[normalizer]()
    space = parts.Metaspace()
    theirs.pre_tokenizer = parts.Sequence([parts.WhitespaceSplit(), space]) if split else space
    options = {"special_tokens": ["<s>", "<pad>", "</s>", "<unk>"], "unk_token": "<unk>", "show_progress": False}
    theirs.train_from_iterator(SCRIPTS, tokenizers.trainers.UnigramTrainer(vocab_size=400, **options))
    theirs.add_special_tokens(["<mask>"])
    return theirs


@pytest.fixture(scope="module")
def charsmap() -> bytes:
    """The map of characters that SentencePiece's models normalise with."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SCRIPTS), model_writer=model, vocab_size=390, minloglevel=2
    )
    return bytes(read_model(model.getvalue(), "model").normalizer_spec.precompiled_charsmap)


@pytest.mark.parametrize(
    ("normalizer", "split"), [(None, False), (None, True), ("NFKC", False), ("map", True), ("map and runs", False)]
)
def test_unigram_models_of_tokenizer_json(normalizer, split, charsmap, tmp_path):
    theirs = unigram(charsmap, normalizer, split=split)
    theirs.save(str(tmp_path / "tokenizer.json"))
    loaded = SentencePieceTokenizer.from_file(tmp_path / "tokenizer.json", add_eos=True)
    texts = [
        *SCRIPTS,
        "",
        "  two  spaces \u3000 \ufb01 \uff21ll ",
        " All",
        "\tAll\nhuman\u2028 beings",
        "\u2603\u2603!",
    ]
    assert_equal_ids(loaded, theirs, texts)
    assert loaded.special_tokens.ids == (1, 3, 0, 2)
    assert loaded.vocabulary_size == theirs.get_vocab_size()
    assert not {0, 400} & set(loaded.tokenize(["<s> <mask>"]).to_list()[0])  # no text has special tokens
    assert loaded.detokenize(loaded(["All human beings"])[0]).numpy() == [b"All human beings"]
    again = SentencePieceTokenizer.from_config(loaded.get_config())
    assert again.tokenize(texts).to_list() == loaded.tokenize(texts).to_list()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].update(type="BPE"), "kind 'BPE', but 'Unigram' was expected"),
        (lambda c: c["model"].update(vocab={"a": 1}), "must be pairs of a piece and its score"),
        (lambda c: c["model"].update(unk_id=None), "unk_id=None, but it must be the id of a piece"),
        (lambda c: c["model"]["vocab"].__setitem__(9, ["a\u2581b", -1.0]), "'a.b'. have a space inside"),
        (lambda c: c["added_tokens"][-1].update(id=9), "'<mask>' has the wrong id 9"),
        (lambda c: c.update(pre_tokenizer={"type": "Digits"}), "pre_tokenizer is .'Digits'., but for a Unigram model"),
        (lambda c: c["pre_tokenizer"].update(prepend_scheme="never"), "Metaspace has prepend_scheme='never'"),
        (lambda c: c.update(normalizer={"type": "Lowercase"}), "normalizer is .'Lowercase'. with"),
        (
            lambda c: c.update(
                pre_tokenizer=sequence("WhitespaceSplit", last=c["pre_tokenizer"]),
                normalizer={"type": "Precompiled", "precompiled_charsmap": "?"},
            ),
            "precompiled_charsmap of normalizer cannot be read",
        ),
    ],
)
def test_says_what_is_wrong_with_a_unigram_model(change, message, tmp_path):
    content = json.loads(unigram(b"", None, split=False).to_str())
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        SentencePieceTokenizer.from_file(tmp_path / "tokenizer.json")
