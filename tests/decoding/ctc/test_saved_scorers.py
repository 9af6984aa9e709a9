"""Scorers, and a search with scorers, saved as JSON and loaded again."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from kseq.decoding import CTCBeamSearch, HotWords, LanguageModelScorer, Lexicon, NGram, NGramScorer, WordNGramScorer
from tests.decoding.ctc.models import LENGTHS, assert_same, numpy, random_logits

CLASSES, WORDS = 4, [[1, 2], [2], [1, 1, 2]]
ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.2\t</s>
-99\t<s>\t-0.3
-0.7\ta\t-0.2
-0.5\tb\t-0.4
-1.5\tc\t-0.1

\\2-grams:
-0.4\t<s> a
-0.3\ta b
-0.6\tb </s>

\\end\\
"""


@keras.saving.register_keras_serializable(package="tests")
def after(tokens, state):
    """A language model that any process knows by its name: what came last comes again."""
    return 3.0 * ops.one_hot(tokens, CLASSES) + state, state + 0.5


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    path = tmp_path_factory.mktemp("arpa") / "model.arpa"
    path.write_text(ARPA)
    return [NGram.from_arpa(path, symbols) for symbols in (["<blank>", "a", "b", "c"], ["a", "b", "c"])]


@pytest.fixture
def scorers(models):
    letters, words = models
    return {
        "n-gram": NGramScorer(letters, weight=0.4, bonus=0.2, end=False),
        "words": WordNGramScorer(WORDS, words, separator=3, weight=0.7, bonus=0.1),
        "lexicon": Lexicon(WORDS, separator=3),
        "free lexicon": Lexicon(WORDS),
        "hot words": HotWords(WORDS, boost=[1.0, -2.0, 0.3]),
        "model": LanguageModelScorer(step=after, state=np.ones((3, CLASSES), "float32"), bos_id=0, eos_id=1),
    }


def reloaded(thing):
    return keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(thing))))


def judged(scorer):
    """What it says along three texts, and at their ends."""
    said, state = [], scorer.initial_state(3, CLASSES)
    for tokens in np.array([[1, 2, 3], [1, 2, 1], [2, 3, 2]], "int32"):
        said += [scorer.score(state, np.tile(np.arange(1, CLASSES, dtype="int32"), (3, 1))), scorer.finish(state)]
        state = scorer.advance(state, tokens)
    return [np.asarray(x) for x in (*said, scorer.finish(state))]


@pytest.mark.parametrize("kind", ["n-gram", "words", "lexicon", "free lexicon", "hot words", "model"])
def test_a_loaded_scorer_judges_as_the_saved_one(kind, scorers):
    scorer = scorers[kind]
    again = reloaded(scorer)
    assert type(again) is type(scorer)
    for got, expected in zip(judged(again), judged(scorer), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert any(np.ptp(x) > 0 for x in judged(scorer)), "it judges everything alike: the test does not test it"


@pytest.mark.long
def test_a_loaded_search_reads_as_the_saved_one(scorers):
    strategy = CTCBeamSearch(beam_width=4, top_paths=2, scorers=(scorers["hot words"], scorers["n-gram"]))
    again = reloaded(strategy)
    assert [type(scorer) for scorer in again.scorers] == [HotWords, NGramScorer]
    logits = random_logits()
    assert_same(numpy(again(logits, LENGTHS)), numpy(strategy(logits, LENGTHS)), atol=0)


def test_a_configuration_with_an_earlier_module_of_the_arcs_loads(scorers):
    config = json.dumps(keras.saving.serialize_keras_object(scorers["lexicon"]))
    earlier = config.replace("kseq.decoding.automata.arcs", "kseq.decoding.arcs")
    assert earlier != config
    again = keras.saving.deserialize_keras_object(json.loads(earlier))
    np.testing.assert_array_equal(again.arcs.tokens, scorers["lexicon"].arcs.tokens)


def test_scorers_are_not_equal_because_they_are_of_one_kind(scorers):
    assert scorers["lexicon"] != scorers["free lexicon"]
    assert len({*scorers.values(), *scorers.values()}) == len(scorers)


def test_a_language_model_with_weights_is_not_saved_as_if_it_had_none(scorers):
    class Model:
        def step(self, tokens, state):
            return after(tokens, state)

    for step in (Model().step, lambda tokens, state: after(tokens, state)):
        scorer = LanguageModelScorer(step=step, state=np.ones((3, CLASSES)), bos_id=0)
        with pytest.raises(TypeError, match="no function registered by keras"):
            reloaded(scorer)
