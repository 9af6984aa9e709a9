"""Exports with every strategy: equal to the model's own decoding, and equal for a text alone and in a batch."""

import numpy as np
import pytest

import kseq
from kseq.decoding import SuppressedTokens, constraints
from tests.contracts.test_decoding_contract import STRATEGIES
from tests.export.test_saved_model import Session

TEXTS, SEEDS = ["abc", "b", "", "cab abc", "abc"], np.array([5, -1, 2**40, 5, 6], "int64")
SIZES = {"buckets": (8,), "batch_sizes": (4,), "max_length": 5, "warmup": False}
LIMITS = (constraints.RequiredPhrases([(6,)]), constraints.LastToken(), SuppressedTokens((0, 1)))
OPTIONS = {
    "BeamSearch": {"top_paths": 3, "length_penalty": 0.8, "coverage_penalty": 0.3},
    "DiverseBeamSearch": {"top_paths": 4, "length_penalty": -0.5, "coverage_penalty": 0.3},
    "Sampling": {"num_samples": 3, "temperature": 2.0, "top_p": 0.9},
    "StochasticBeamSearch": {"num_samples": 3},
}


@pytest.mark.mostly_long("BeamSearch")
@pytest.mark.server
@pytest.mark.parametrize("kind", STRATEGIES, ids=lambda x: x.__name__)
def test_every_strategy_answers_as_the_model_does(kind, small, tokenizer, tmp_path):
    strategy = kind(constraints=LIMITS, **OPTIONS.get(kind.__name__, {}))
    seeds = {"seed": SEEDS} if kind.draws else {}
    own = small.decode(*tokenizer(TEXTS), strategy=strategy, max_length=5, **seeds)
    assert (
        (np.asarray(own.tokens) == 6).any(axis=-1).all()
    )  # the phrase is in each, so that there is something to equal
    folder = kseq.export_saved_model(
        small, tmp_path / "m", strategy=strategy, source=tokenizer, seed_input=kind.draws, **SIZES
    )
    compiled = kind.__name__ in ("BeamSearch", "Sampling")  # tests/contracts compile every strategy
    for signature_name in ("serving_default", "serving_xla") if compiled else ("serving_default",):
        served = Session(folder, signature_name)
        together = served(text=np.array(TEXTS, object), **seeds)
        np.testing.assert_array_equal(together["tokens"], own.tokens)
        np.testing.assert_allclose(together["scores"], own.scores, atol=1e-4)
        for row in (1, 3):
            seed = {name: value[row : row + 1] for name, value in seeds.items()}
            alone = served(text=np.array(TEXTS[row : row + 1], object), **seed)
            np.testing.assert_array_equal(alone["tokens"][0], together["tokens"][row])
    if kind.draws and kind.__name__ == "Sampling":
        assert (together["tokens"][0] != together["tokens"][4]).any()  # equal texts with different seeds


def test_a_strategy_that_draws_nothing_takes_no_seed(small, tmp_path):
    with pytest.raises(ValueError, match=r"needs a strategy that draws random numbers.*GreedySearch"):
        kseq.export_saved_model(small, tmp_path, strategy=kseq.decoding.GreedySearch(), seed_input=True)
