"""Small models for the tests of the export, and an export of one of them."""

import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq.models.encoder_decoder import EncoderDecoder
from tests.decoding.models import RandomRNN

TEXTS = ["abc", "b", "", "cab abc", "zzz", "acb" * 9]


@pytest.fixture(scope="session")
def tokenizer():
    normalizer = kseq.text.TextNormalizer(case="lower")
    return kseq.text.CharacterTokenizer(normalizer=normalizer).adapt(["abc bca cab"])


@pytest.fixture(scope="session")
def model(tokenizer):
    import keras

    keras.utils.set_random_seed(3)
    size = tokenizer.vocabulary_size
    made = kseq.models.Seq2Seq(
        kseq.models.Encoder(size, 8, kseq.cells.LSTMCell(6)), kseq.models.Decoder(size, 7, kseq.cells.LSTMCell(5))
    )
    made.build()
    random = np.random.default_rng(5)
    made.set_weights([random.normal(size=w.shape) for w in made.get_weights()])
    return made


class Small(EncoderDecoder, tf.Module):
    """A model of ids 0 to 7 from a few products, with attention, for tests that do not depend on the model."""

    pad_id, bos_id, eos_id, source_vocabulary_size, target_vocabulary_size, built = 0, 2, 3, 8, 8, True

    def __init__(self):
        super().__init__()
        self.rnn = RandomRNN(seed=2, vocabulary=8)

    def encode(self, source, source_lengths):
        values = tf.gather(self.rnn.embedding, source)  # (batch, time, units)
        memory = {"source": values, "mask": tf.sequence_mask(source_lengths, tf.shape(source)[1])}
        return (tf.zeros_like(values[:, 0]),), memory

    def step(self, tokens, state, memory):
        return self.rnn.step(tokens, state, memory)


@pytest.fixture(scope="session")
def small():
    return Small()


@pytest.fixture(scope="session")
def export_small(small):
    """Return a function that exports the small model with few buckets and batch sizes."""

    def export(path, **options):
        few = {"strategy": kseq.decoding.GreedySearch(), "buckets": (4,), "batch_sizes": (1,), "max_length": 6}
        return kseq.export_saved_model(small, path, **{**few, **options})

    return export


@pytest.fixture(scope="session")
def strategy():
    return kseq.decoding.BeamSearch(beam_width=3, top_paths=2, length_penalty=0.6)


@pytest.fixture(scope="session")
def folder(model, tokenizer, strategy, tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "letters"
    options = {
        "source": tokenizer,
        "target": tokenizer,
        "buckets": (4, 8, 16),
        "batch_sizes": (1, 2, 4),
        "max_length": 6,
    }
    return kseq.export_saved_model(model, base, strategy=strategy, **options)


@pytest.fixture(scope="session")
def expected(model, tokenizer, strategy):
    """The model's own answers to TEXTS, each decoded alone and truncated to the largest bucket."""
    answers = []
    for text in TEXTS:
        ids, lengths = tokenizer([text])
        ids, lengths = ids[:, :16], np.minimum(lengths, 16)
        decoded = model.decode(ids, lengths, strategy=strategy, max_length=6)
        answers.append([np.asarray(x)[0] for x in (decoded.tokens, decoded.lengths, decoded.scores)])
    return [np.stack(column) for column in zip(*answers, strict=True)]
