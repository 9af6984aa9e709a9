"""Windows of words for word vectors: what they hold, what is left out, and the noise; and counts of pairs."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from kseq.text import WordTokenizer
from kseq.training import co_occurrences, context_windows

TEXTS = ["a b c d e f g", "", "h i", "a unknown b", "j", "a b c d e f g h i j k"] * 4
TOKENIZER = WordTokenizer().adapt(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"])
SMALL = {"batch_size": 3, "steps": 4, "noise": 6}


def passed(dataset):
    """Return the batches of a pass, one after the other."""
    batches = list(dataset.as_numpy_iterator())
    assert len(batches) == len(dataset)
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def windows(batch, window):
    """Return how often each centre has which words around it."""
    found = collections.Counter()
    for words, before, after in zip(batch["words"], batch["before"], batch["after"], strict=True):
        for place, (left, right) in enumerate(zip(before, after, strict=True)):
            own = place + window
            around = (*words[own - left : own], *words[own + 1 : own + right + 1])
            found[(int(words[own]), tuple(map(int, around)))] += bool(around)
    return +found


def expected_windows(window):
    found = collections.Counter()
    for row in TOKENIZER.tokenize(TEXTS).to_list():
        ids = [each for each in row if each != TOKENIZER.unk_id]
        for place, centre in enumerate(ids):
            found[(centre, (*ids[max(place - window, 0) : place], *ids[place + 1 : place + window + 1]))] += (
                len(ids) > 1
            )
    return +found


def test_each_word_is_once_the_centre_of_a_window_within_its_text(monkeypatch):
    class Widest:  # windows of the full size
        def __init__(self, seed):
            self.real = np.random.Generator(np.random.PCG64(seed))

        def integers(self, low, high, size, dtype):
            return np.full(size, high - 1, dtype)

        def __getattr__(self, name):
            return getattr(self.real, name)

    monkeypatch.setattr(np.random, "default_rng", Widest)
    for window in (1, 3):
        batch = passed(context_windows(TOKENIZER, TEXTS, window=window, sample=0, **SMALL))
        assert windows(batch, window) == expected_windows(window)
        assert batch["words"].shape == (len(batch["before"]), 4 + 2 * window)


def test_draws_depend_on_the_seed_and_the_pass():
    first, again, other = (context_windows(TOKENIZER, TEXTS, sample=0.05, seed=seed, **SMALL) for seed in (1, 1, 2))
    one, two = passed(first), passed(first)
    for name, values in passed(again).items():
        np.testing.assert_array_equal(values, one[name])
    assert not np.array_equal(one["words"], two["words"])
    assert not np.array_equal(one["words"], passed(other)["words"])
    assert len(two["words"]) == len(one["words"])


def test_sizes_of_windows_and_noise_have_their_distributions():
    texts = [" ".join("abcdefghijk"[number % 11] for number in range(3000))] * 2
    counts = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]) * 30
    skewed = [" ".join(letter for letter, count in zip("abcdefghijk", counts, strict=True) for _ in range(count))]
    batch = passed(context_windows(TOKENIZER, texts, 4, window=4, sample=0))
    np.testing.assert_allclose(np.bincount(batch["before"].ravel())[1:] / 6000, 0.25, atol=0.03)
    noise = passed(context_windows(TOKENIZER, skewed, 4, noise=4000, sample=0, noise_power=0.5))["noise"]
    shares = np.bincount(noise.ravel(), minlength=TOKENIZER.vocabulary_size)[4:] / noise.size
    found = {letter: TOKENIZER.vocabulary.strings.index(letter) - 4 for letter in "abcdefghijk"}
    expected = np.zeros(11)
    expected[[found[letter] for letter in "abcdefghijk"]] = np.sqrt(counts) / np.sqrt(counts).sum()
    np.testing.assert_allclose(shares, expected, atol=0.01)


def test_frequent_words_are_left_out_as_stated():
    texts = ["a " * 3000 + "b " * 100 + "c " * 10] * 2
    batch = passed(context_windows(TOKENIZER, texts, 4, sample=0.01))
    centres = batch["words"][:, 5:-5][(batch["before"] + batch["after"]) > 0]
    counts = np.bincount(centres, minlength=15)[4:7]
    shares = np.array([3000, 100, 10]) / 3110
    kept = np.minimum((np.sqrt(shares / 0.01) + 1) * 0.01 / shares, 1)
    assert kept[2] == 1
    np.testing.assert_allclose(counts, kept * [6000, 200, 20], rtol=0.12)


def test_reads_datasets_and_files(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    expected = passed(context_windows(TOKENIZER, TEXTS, **SMALL))
    for texts in (tmp_path / "texts.txt", tf.data.Dataset.from_tensor_slices(TEXTS)):
        np.testing.assert_array_equal(passed(context_windows(TOKENIZER, texts, **SMALL))["words"], expected["words"])


def test_counts_of_pairs_weigh_one_by_distance():
    pairs = co_occurrences(TOKENIZER, TEXTS, window=3)
    expected = collections.Counter()
    for row in TOKENIZER.tokenize(TEXTS).to_list():
        ids = [each for each in row if each != TOKENIZER.unk_id]
        for place, word in enumerate(ids):
            for other in range(max(place - 3, 0), min(place + 4, len(ids))):
                if other != place:
                    expected[(word, ids[other])] += 1 / abs(other - place)
    got = {(w, c): x for w, c, x in zip(*(pairs[name].tolist() for name in ("word", "context", "count")), strict=True)}
    assert got == pytest.approx(expected)
    assert len(co_occurrences(TOKENIZER, ["a b"], window=99)["count"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window=0 must be at least 1"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"noise": 0}, "noise=0 must be at least 1"),
        ({"sample": -1}, "sample=-1 must not be negative"),
        ({"noise_power": float("nan")}, "noise_power must be a finite number"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"seed": -1}, "seed=-1 must not be negative"),
        ({"texts": ["x y", "a"]}, "2 texts have 1 known words, but none of the texts has two"),
        ({"texts": ["a", "b"]}, "2 texts have 2 known words, but none of the texts has two"),
        ({"texts": "abc"}, "Put a single text into a list"),
        ({"sample": 1e-30}, "sample=1e-30 leaves .* of 92 words in, on average"),
        ({"source_tokenizer": TOKENIZER.vocabulary}, "source_tokenizer must be a tokenizer of kseq.text"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    texts = options.pop("texts", TEXTS)
    with pytest.raises((ValueError, TypeError), match=message):
        context_windows(**{"source_tokenizer": TOKENIZER, "texts": texts, **options})


def test_a_large_power_draws_the_most_frequent_words_as_noise():
    noise = passed(context_windows(TOKENIZER, TEXTS, noise_power=1000, sample=0, **SMALL))["noise"]
    assert TOKENIZER.vocabulary.tokens(np.unique(noise)).numpy().tolist() == [b"a", b"b"]


def test_counting_stops_at_the_longest_text(monkeypatch):
    distances = []
    bincount = np.bincount
    monkeypatch.setattr(np, "bincount", lambda *args, **options: distances.append(args) or bincount(*args, **options))
    co_occurrences(TOKENIZER, ["a b c"] * 50, window=10**6)
    assert len(distances) == 3  # the words, and two distances


def test_pairs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="window=0 must be at least 1"):
        co_occurrences(TOKENIZER, TEXTS, window=0)
    with pytest.raises(ValueError, match="none of the texts has two"):
        co_occurrences(TOKENIZER, ["a", "b"])
