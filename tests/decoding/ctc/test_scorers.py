"""Language models, hot words and lexicons in the search, against every string with its bonus."""

import gzip
import itertools

import keras
import numpy as np
import pytest
from keras import ops

from kseq.decoding import (
    HotWords,
    LanguageModelScorer,
    Lexicon,
    NGram,
    NGramScorer,
    Scorer,
    WordNGramScorer,
    ctc_beam_search,
)
from tests.decoding.ctc.models import (
    LENGTHS,
    assert_same,
    assert_strings,
    numpy,
    quick,
    random_logits,
    strings,
    ways,
)
from tests.decoding.models import BOS, EOS, RandomRNN
from tests.reference import ctc_decoding as reference

LOGITS, FEW_LENGTHS = random_logits(seed=1, shape=(3, 5, 4)), np.array([5, 4, 2])
ARPA = """
\\data\\
ngram 1=6
ngram 2=5
ngram 3=2

\\1-grams:
-1.2\t</s>
-99\t<s>\t-0.3
-0.7\ta\t-0.2
-0.5\tb\t-0.4
-1.5\telsewhere\t-0.1
-2.0\t<unk>

\\2-grams:
-0.4\t<s> a\t-0.15
-0.3\ta b\t-0.25
-0.9\tb a
-0.6\tb </s>
-0.8\ta elsewhere

\\3-grams:
-0.1\t<s> a b
-0.2\ta b a

\\end\\
"""
SYMBOLS = ["<blank>", "a", "b", "c"]


def search(logits, lengths, **options):
    """As `models.search`; scorers are not known by their values."""
    return numpy(quick(lambda logits, lengths: ctc_beam_search(logits, lengths, **options))(logits, lengths))


def assert_best_of_all(scorers, bonus, *, paths=6, **options):
    """A beam that holds every string gives the best of all by log-probability and bonus."""
    decoded = search(LOGITS, FEW_LENGTHS, beam_width=300, top_paths=paths, scorers=scorers, **options)
    for row, length in enumerate(FEW_LENGTHS):
        log_probabilities = reference.log_softmax(LOGITS[row, :length])
        by_row = lambda string, row=row: bonus(string, row)  # noqa: E731
        assert_strings(strings(decoded, row), reference.best_strings(log_probabilities, 0, paths, by_row))


@pytest.fixture
def arpa(tmp_path):
    (tmp_path / "model.arpa").write_text(ARPA)
    return tmp_path / "model.arpa"


class RepetitionsCost(Scorer):
    """A symbol that comes twice in a row costs one nat and a half."""

    def initial_state(self, batch, classes):
        return {"last": ops.full((batch,), -1, dtype="int32"), "count": ops.zeros((batch, 2), dtype="int32")}

    def score(self, state, tokens):
        return ops.where(tokens == state["last"][:, None], -1.5, 0.0)

    def advance(self, state, tokens):
        return {"last": tokens, "count": state["count"] + 1}


def repetitions(string, row=0):
    return -1.5 * sum(a == b for a, b in itertools.pairwise(string))


@pytest.mark.long
def test_a_scorer_of_ones_own():
    assert_best_of_all((RepetitionsCost(),), repetitions)


@pytest.mark.long
@pytest.mark.parametrize("classes_per_frame", [None, 2])
def test_a_narrow_beam_with_a_scorer_equals_the_slow_one(classes_per_frame):
    logits = random_logits(seed=2, shape=(4, 12, 5))
    options = {"beam_width": 4, "classes_per_frame": classes_per_frame}
    decoded = search(logits, np.array([12, 12, 9, 3]), **options, top_paths=4, scorers=(RepetitionsCost(),))
    for row, length in enumerate([12, 12, 9, 3]):
        log_probabilities = reference.log_softmax(logits[row, :length])
        expected = reference.prefix_beam_search(log_probabilities, 0, bonus=repetitions, **options)
        assert_strings(strings(decoded, row, frames=True), expected)


@pytest.mark.parametrize("eos_id", [None, EOS])
def test_fusion_with_a_language_model(eos_id):
    model, token_ids = RandomRNN(seed=4, batch=3), [0, 3, 4, 0]
    fusion = LanguageModelScorer(
        step=lambda tokens, state, memory: model.step(tokens, state, memory)[:2],
        **{"state": model.state, "memory": model.memory, "bos_id": BOS, "eos_id": eos_id},
        **{"weight": 0.6, "bonus": 0.4, "token_ids": token_ids},
    )

    def bonus(string, row):
        tokens, predict = tuple(token_ids[symbol] for symbol in string), model.predict(row)
        total = sum(0.4 + 0.6 * predict(tokens[:n])[0][token] for n, token in enumerate(tokens))
        return total if eos_id is None else total + 0.6 * predict(tokens)[0][eos_id]

    assert_best_of_all((fusion,), bonus)


@pytest.mark.long
def test_fusion_in_every_way_and_rows_alone():
    table = random_logits(seed=8, shape=(5, 4))

    def fused(state):
        step = lambda tokens, state: (ops.take(table, tokens, axis=0), state)  # noqa: E731
        return (LanguageModelScorer(step=step, state=state, bos_id=1), HotWords([[1, 2], [3]]), RepetitionsCost())

    logits = random_logits(seed=7)

    def function(logits, lengths):
        scorers = fused(ops.zeros((ops.shape(logits)[0], 1)))
        return ctc_beam_search(logits, lengths, beam_width=3, top_paths=2, scorers=scorers)

    (_, expected), *others = ways(function, logits, LENGTHS)
    for _, answer in others:
        assert_same(answer, expected)
    for row in (1, 4):
        rows = slice(row, row + 1)
        alone = search(
            logits[rows], LENGTHS[rows], beam_width=3, top_paths=2, scorers=fused(np.zeros((1, 1), "float32"))
        )
        assert_same(alone, keras.tree.map_structure(lambda x: x[rows], expected))  # noqa: B023


@pytest.mark.long
def test_an_arpa_file_gives_what_is_computed_by_hand(arpa):
    model = NGram.from_arpa(arpa, SYMBOLS)
    a, b, c, end = 1, 2, 3, 4
    by_hand = {
        (): {a: -0.4, b: -0.3 - 0.5, c: -0.3 - 2.0, end: -0.3 - 1.2},
        (a,): {a: -0.15 - 0.2 - 0.7, b: -0.1, c: -0.15 - 0.2 - 2.0, end: -0.15 - 0.2 - 1.2},
        (a, b): {a: -0.2, b: -0.25 - 0.4 - 0.5, c: -0.25 - 0.4 - 2.0, end: -0.25 - 0.6},
        (b,): {a: -0.9, b: -0.4 - 0.5, end: -0.6},
        (b, a): {b: -0.3, a: -0.2 - 0.7},
        (a, b, a): {b: -0.3, end: -0.2 - 1.2},
        (c,): {a: -0.7, b: -0.5, c: -2.0, end: -1.2},
        (c, a, b): {a: -0.2, end: -0.25 - 0.6},
    }
    for context, expected in by_hand.items():
        state = np.array([model.begin], "int32")
        for token in context:
            _, state = model.look_up(state, np.array([token], "int32"))
        for token, value in expected.items():
            got, _ = model.look_up(state, np.array([token], "int32"))
            assert np.asarray(got)[0] / np.log(10) == pytest.approx(value, abs=1e-6), (context, token)


def by_arpa(words):
    """The log-probability of a text by the file's own definition, in nats."""
    known = {}
    for line in ARPA.splitlines():
        probability, *rest = line.split("\t")
        if rest:
            known[tuple(rest[0].split())] = float(probability), float(rest[1]) if len(rest) > 1 else 0.0

    def log10(context, word):
        if not context:
            return known.get((word,), known["<unk>",])[0]
        if (*context, word) in known:
            return known[*context, word][0]
        return known.get(context, (0, 0.0))[1] + log10(context[1:], word)

    words = ["<s>", *words, "</s>"]
    return np.log(10) * sum(log10(tuple(words[max(0, n - 2) : n]), words[n]) for n in range(1, len(words)))


@pytest.mark.long
def test_fusion_with_an_arpa_file(arpa, tmp_path):
    with gzip.open(tmp_path / "model.arpa.gz", "wt") as file:
        file.write(ARPA)

    def bonus(string, row):
        return 0.7 * by_arpa([SYMBOLS[symbol] for symbol in string]) + 0.9 * len(string)

    for path in (arpa, tmp_path / "model.arpa.gz"):
        assert_best_of_all((NGramScorer(NGram.from_arpa(path, SYMBOLS), weight=0.7, bonus=0.9),), bonus)


@pytest.mark.long
def test_fusion_with_a_model_of_words(arpa):
    spelled, separator = {(1,): "a", (1, 2): "b", (2, 2): "c"}, 3
    fusion = WordNGramScorer(
        list(spelled), NGram.from_arpa(arpa, list(spelled.values())), separator=separator, weight=0.8, bonus=0.6
    )

    def bonus(string, row):
        if not is_text(string, spelled, separator):
            return -np.inf
        parts = "".join(map(str, string)).split(str(separator))
        words = [spelled[tuple(map(int, part))] for part in parts if part]
        return 0.8 * by_arpa(words) + 0.6 * len(words)

    assert_best_of_all((fusion,), bonus, paths=12)
    with pytest.raises(ValueError, match="got 2 words, 1 of them different, and 3 symbols"):
        WordNGramScorer([[1], [1]], fusion.model, separator=3)


def occurrences(string, word):
    return sum(string[n : n + len(word)] == word for n in range(len(string)))


@pytest.mark.parametrize(
    ("words", "boost"),
    [
        ([(1, 2)], 2.0),
        ([(1,), (1, 1), (2, 1, 2), (1, 2)], [0.5, 1.0, 3.0, 0.25]),
        ([(1, 1, 1), (2, 3), (3, 2)], [2.0, -1.0, 1.5]),
    ],
)
def test_hot_words_add_a_boost_for_every_occurrence(words, boost):
    boosts = [boost] * len(words) if isinstance(boost, float) else boost

    def bonus(string, row):
        return sum(b * occurrences(string, word) for word, b in zip(words, boosts, strict=True))

    assert_best_of_all((HotWords(words, boost=boost),), bonus)


def test_a_hot_words_beginning_stays_in_the_beam():
    # The word begins with an improbable symbol; a beam of 1 has lost it before its end,
    # if it earns nothing on the way.
    logits = np.log(
        np.array([[[0.01, 0.58, 0.4, 0.01], [0.01, 0.01, 0.01, 0.97], [0.01, 0.97, 0.01, 0.01]]], "float32")
    )
    lengths = np.array([3])
    assert strings(search(logits, lengths, beam_width=2), 0)[0][1] == (1, 3, 1)
    assert strings(search(logits, lengths, beam_width=2, scorers=(HotWords([[2, 3, 1]], boost=1.0),)), 0)[0][1] == (
        2,
        3,
        1,
    )


def is_text(string, words, separator):
    if separator is None:
        return not string or any(
            string[: len(word)] == word and is_text(string[len(word) :], words, None) for word in words
        )
    parts = "".join(map(str, string)).split(str(separator))
    parts = parts[:-1] if not parts[-1] else parts  # the text may end in a separator
    return not string or all(tuple(map(int, part)) in words for part in parts)


@pytest.mark.parametrize(
    ("words", "separator"),
    [
        ([(1, 2), (2,), (1, 1)], 3),
        ([(1,), (1, 2), (2, 2, 1)], None),
        ([(1, 2, 3), (1,), (2, 1)], None),
    ],
)
def test_a_lexicon_allows_its_words_alone(words, separator):
    allowed = [s for n in range(6) for s in itertools.product((1, 2, 3), repeat=n) if is_text(s, words, separator)]
    assert len(allowed) > 10

    def bonus(string, row):
        return 0.0 if is_text(string, words, separator) else -np.inf

    assert_best_of_all((Lexicon(words, separator=separator),), bonus, paths=12)


def test_a_lexicon_without_a_word_that_fits_gives_none():
    decoded = search(
        LOGITS, FEW_LENGTHS, beam_width=4, scorers=(Lexicon([[1, 2, 1, 2, 1, 2]]), HotWords([[1]], boost=-50.0))
    )
    assert strings(decoded, 2) == [(pytest.approx(LOGITS_EMPTY(2), abs=1e-4), ())]


def LOGITS_EMPTY(row):  # noqa: N802
    return reference.log_softmax(LOGITS[row, : FEW_LENGTHS[row]])[:, 0].sum()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lexicon([]), "but got separator=None and no words"),
        (lambda: Lexicon([[1, 2], []]), r"the word \(\)"),
        (lambda: Lexicon([[1, 3]], separator=3), r"separator=3 and the word \(1, 3\)"),
        (lambda: Lexicon([[1, 4]]).initial_state(1, 4), "a word with class 4, but the logits have 4 classes"),
        (lambda: HotWords([]), "HotWords needs words"),
        (lambda: HotWords([[1]], boost=[1.0, 2.0]), "2 boosts"),
        (lambda: HotWords([[7]]).initial_state(1, 4), "a word with class 7, but the logits have 4 classes"),
        (
            lambda: LanguageModelScorer(step=None, state=np.zeros((2, 1)), bos_id=0).initial_state(3, 4),
            "state has 2 rows, but the logits have 3",
        ),
        (
            lambda: LanguageModelScorer(
                step=lambda tokens, state: (ops.zeros((2, 4)), state), state=np.zeros((2, 1)), bos_id=0, eos_id=9
            ).initial_state(2, 4),
            "eos_id=9 is outside the vocabulary",
        ),
        (
            lambda: LanguageModelScorer(
                step=lambda tokens, state: (ops.zeros((2, 3)), state), state=np.zeros((2, 1)), bos_id=0
            ).initial_state(2, 4),
            "a token of token_ids=3 is outside the vocabulary",
        ),
        (
            lambda: LanguageModelScorer(
                step=lambda tokens, state: (ops.zeros((2, 4)), state),
                **{"state": np.zeros((2, 1)), "bos_id": 0, "token_ids": [0, 1]},
            ).initial_state(2, 4),
            "token_ids has 2 tokens, but there are 4 classes",
        ),
    ],
)
def test_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_says_what_is_wrong_with_an_arpa_file(arpa):
    with pytest.raises(ValueError, match="symbols holds 'a' more than once"):
        NGram.from_arpa(arpa, ["a", "b", "a"])
    with pytest.raises(ValueError, match=r"has no 1-grams of the symbols \['x', 'y'\]"):
        NGram.from_arpa(arpa, ["x", "y"])
    with pytest.raises(ValueError, match="has 2 symbols, but the logits have 4 classes"):
        NGramScorer(NGram.from_arpa(arpa, ["a", "b"])).initial_state(1, 4)
    arpa.write_text(ARPA.replace("-0.3\ta b", "-0.3\ta b a b"))
    with pytest.raises(ValueError, match=r"line 17: expected a number, 2 words and perhaps a number, but got '-0.3"):
        NGram.from_arpa(arpa, SYMBOLS)


def without(line):
    return ARPA.replace(f"{line}\n", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ARPA.replace("\\end\\\n", ""), r"is not complete: .* and no .end"),
        (ARPA[: ARPA.index("-0.2\ta b a")], r"promises \{1: 6, 2: 5, 3: 2\} n-grams by order, but it has .* 3: 1\}"),
        (without("-0.9\tb a"), r"it has \{1: 6, 2: 4, 3: 2\}"),
        (without("ngram 3=2"), r"promises \{1: 6, 2: 5\}"),
        (ARPA.replace("\\data\\", ""), "is no ARPA file: it has no header"),
        (ARPA.replace("-0.9\tb a", "nan\tb a"), "line 18: expected a number"),
        (ARPA.replace("-0.9\tb a", "0.9\tb a"), "log10 of a probability, 0 or less"),
        (ARPA.replace("-0.9\tb a", "-0.3\ta b"), "has the n-gram 'a b' twice"),
        (
            b"mmap lm http://kheafield.com/code format version 5\n\0\xff\xfe",
            "is a binary of KenLM, .* Give the ARPA file",
        ),
        (b"\xff\xfe\x00binary", "is no ARPA file in UTF-8"),
        (gzip.compress(ARPA.encode())[:-40], "is no ARPA file in UTF-8, or it is damaged"),
    ],
)
def test_says_what_is_wrong_with_the_content_of_an_arpa_file(content, message, tmp_path):
    path = tmp_path / "model.arpa"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        NGram.from_arpa(path, SYMBOLS)


def test_a_compressed_arpa_file_needs_no_suffix(tmp_path):
    (tmp_path / "model").write_bytes(gzip.compress(ARPA.replace("-99\t<s>", "-inf\t<s>").encode()))
    assert NGram.from_arpa(tmp_path / "model", SYMBOLS).order == 3


@pytest.mark.parametrize(
    "boost", [np.float32(2), np.int64(2), np.array(2.0), [np.float16(2)], np.array([2.0])], ids=repr
)
def test_boosts_may_be_numbers_of_numpy(boost):
    np.testing.assert_array_equal(HotWords([[1, 2]], boost=boost).gains, HotWords([[1, 2]], boost=2.0).gains)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: HotWords([[1]], boost=np.nan), "boost must be a finite number, but got boost=nan"),
        (lambda _: HotWords([[1]], boost=[np.inf]), "boost must be a finite number, but got boost=inf"),
        (
            lambda _: HotWords([[1, 2]], boost=1e9),
            r"word \(1, 2\) must be between -100.0 and 100.0 nats, 50.0 for each",
        ),
        (lambda _: HotWords(["cat"]), "word 0 of HotWords must be a sequence of ids.* 'cat'"),
        (lambda _: HotWords([1, 2]), "word 0 of HotWords must be a sequence of ids"),
        (lambda _: HotWords([[1.5]]), "word 0 of HotWords must be a sequence of ids"),
        (lambda _: Lexicon([[1, 2.5]]), "word 0 of Lexicon must be a sequence of ids"),
        (lambda _: Lexicon([[1]], separator=1.5), "separator must be a whole number"),
        (lambda model: NGramScorer(model, weight=np.nan), "weight must be a finite number"),
        (lambda model: NGramScorer(model, bonus=np.inf), "bonus must be a finite number"),
        (lambda model: NGramScorer(model, bonus=1e9), "bonus must be between -50.0 and 50.0 nats"),
        (lambda model: NGramScorer(model, weight=1e9), "weight must be between -100.0 and 100.0"),
        (lambda model: WordNGramScorer([[1]] * 4, model, separator=3, weight=np.nan), "weight must be a finite number"),
        (
            lambda _: LanguageModelScorer(step=None, state=(), bos_id=0, bonus=np.nan),
            "bonus must be a finite number, but got bonus=nan",
        ),
        (lambda _: LanguageModelScorer(step=None, state=(), bos_id=1.5), "bos_id must be a whole number"),
    ],
)
def test_numbers_are_finite_and_bounded(make, message, arpa):
    with pytest.raises(ValueError, match=message):
        make(NGram.from_arpa(arpa, SYMBOLS))
