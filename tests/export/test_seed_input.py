"""Sampling with a seed given in the request."""

import numpy as np
import pytest

import kseq
from tests.export.test_saved_model import Session

pytestmark = pytest.mark.tensorflow
TEXTS, SEEDS = ["abc", "b", "abc"], np.array([5, -1, 2**40], "int64")


@pytest.fixture(scope="module")
def seeded(model, tokenizer, tmp_path_factory):
    strategy = kseq.decoding.Sampling(num_samples=2)
    options = {"source": tokenizer, "target": tokenizer, "buckets": (4,), "batch_sizes": (2,), "max_length": 6}
    folder = tmp_path_factory.mktemp("models") / "seeded"
    return kseq.export_saved_model(model, folder, strategy=strategy, seed_input=True, **options)


@pytest.mark.parametrize("signature_name", ["serving_default", "serving_xla"])
def test_a_seed_gives_what_the_model_gives_with_it(seeded, signature_name, model, tokenizer):
    served = Session(seeded, signature_name)
    one, again = (served(text=np.array(TEXTS, object), seed=SEEDS) for _ in range(2))
    np.testing.assert_array_equal(one["tokens"], again["tokens"])
    decoded = model.decode(*tokenizer(TEXTS), strategy=kseq.decoding.Sampling(num_samples=2), max_length=6, seed=SEEDS)
    np.testing.assert_array_equal(one["tokens"], decoded.tokens)
    alone = served(text=np.array(TEXTS[1:2], object), seed=SEEDS[1:2])
    np.testing.assert_array_equal(alone["tokens"], one["tokens"][1:2])
    assert (one["tokens"][0] != one["tokens"][2]).any()  # the same text with another seed
    served.session.close()


def test_a_strategy_that_draws_nothing_takes_no_seed(model, tmp_path):
    with pytest.raises(ValueError, match=r"needs a strategy that draws random numbers.*GreedySearch"):
        kseq.export_saved_model(model, tmp_path, strategy=kseq.decoding.GreedySearch(), seed_input=True)
