"""The contract of configs: they hold every constructor argument, which saved files would otherwise lose."""

import functools
import inspect
import json

import keras
import pytest

import kseq
from tests.contracts.cells import CELLS, build_cell
from tests.contracts.encoders import ENCODERS
from tests.contracts.heads import HEADS
from tests.contracts.test_attention_contract import CASES, make

GRU_CELL = functools.partial(kseq.cells.GRUCell, 3)
LSTM = functools.partial(kseq.layers.LSTM, 3)
MAKERS = [  # functions, so that collecting the tests creates no instance
    *(functools.partial(build_cell, cell) for cell in CELLS),
    *(functools.partial(make, mechanism, **options) for mechanism, options in CASES.values()),
    lambda: kseq.layers.AdaptiveSoftmax(9, (2, 5), div_value=2.0),
    lambda: kseq.layers.RNN(GRU_CELL()),
    lambda: kseq.layers.AttentionRNN(GRU_CELL(), [kseq.attention.AdditiveAttention(3)], attention_layer_size=[3]),
    lambda: kseq.layers.SimpleRNN(3),
    lambda: kseq.layers.GRU(3),
    LSTM,
    lambda: kseq.layers.Bidirectional(LSTM()),
    lambda: kseq.layers.StackedRNN([LSTM()]),
    lambda: kseq.layers.DeepRNN([LSTM()], 2),
    lambda: kseq.layers.CRF(3, names=["O", "B-X", "I-X"], scheme="BIO"),
    lambda: kseq.layers.SequencePooling("attention", units=3),
    lambda: kseq.layers.SinusoidalPositionalEncoding(100.0),
    lambda: kseq.layers.LearnedPositionalEmbedding(9),
    lambda: kseq.layers.CharNGramEmbedding(9, 3, combine="concat", min_length=2, max_length=3, buckets=7),
    lambda: kseq.layers.ConformerLayer(2, 5, dropout=0.1),
    lambda: kseq.layers.TransformerDecoderLayer(2, 5, cross_attention=False),
    lambda: kseq.layers.TransformerEncoderLayer(2, 5, activation="swiglu", dropout=0.1),
    kseq.losses.AlignmentLoss,
    kseq.losses.CRF,
    kseq.losses.CTC,
    lambda: kseq.losses.NegativeLogLikelihood(kseq.heads.Normal()),
    kseq.losses.SequenceCrossEntropy,
    *(lambda case=case: case.head for case in HEADS.values()),
    kseq.heads.Quantiles,
    lambda: kseq.metrics.Bleu(tokenize="char", smooth_method="floor", smooth_value=0.2),
    kseq.metrics.CharacterErrorRate,
    lambda: kseq.metrics.ChrF(word_order=2),
    kseq.metrics.Coverage,
    kseq.metrics.MASE,
    kseq.metrics.WeightedQuantileLoss,
    kseq.metrics.EditDistance,
    lambda: kseq.metrics.SpanF1(["O", "B-X", "I-X"]),
    kseq.metrics.Perplexity,
    kseq.metrics.SequenceAccuracy,
    kseq.metrics.TokenAccuracy,
    kseq.metrics.TokenErrorRate,
    kseq.metrics.WordErrorRate,
    lambda: kseq.frontends.FrameConvolutions((3, 4)),
    lambda: kseq.frontends.FrameStacking(2),
    lambda: kseq.frontends.FrontEndChain([kseq.frontends.FrameStacking(2)]),
    lambda: kseq.frontends.LogMelSpectrogram(8000),
    lambda: kseq.frontends.SpecAugment(time_warp=3, fill=0.0, seed=1),
    lambda: kseq.models.CTCRecognizer(3, 4, LSTM(return_sequences=True)),
    *ENCODERS.values(),
    lambda: kseq.models.Decoder(9, 4, GRU_CELL()),
    lambda: kseq.models.LanguageModel(kseq.models.Encoder(9, 4, GRU_CELL(), bidirectional=False)),
    lambda: kseq.models.Forecaster(GRU_CELL(), kseq.heads.Normal(), horizon=2, category_sizes=(3,)),
    lambda: kseq.models.Tagger(kseq.models.Encoder(9, 4, GRU_CELL()), 5),
    lambda: kseq.models.SequenceClassifier(kseq.models.Encoder(9, 4, GRU_CELL()), 5, pooling="mean"),
    lambda: kseq.models.Seq2Seq(kseq.models.Encoder(9, 4, GRU_CELL()), kseq.models.Decoder(9, 4, GRU_CELL())),
    lambda: kseq.models.CharacterEncoder(9, 4, GRU_CELL()),
    lambda: kseq.training.Distillation(0.3),
    lambda: kseq.training.GuidedAlignment("diagonal"),
    lambda: kseq.training.JointCTC(0.2),
    lambda: kseq.training.MinimumRisk(0.2),
    lambda: kseq.training.ScheduledSampling("linear", steps=3),
    lambda: kseq.models.CBOW(9, 4, negatives=3),
    lambda: kseq.models.GloVe(9, 4, x_max=10, power=0.5),
    lambda: kseq.models.SkipGram(9, 4),
    lambda: kseq.models.TransformerEncoder(9, 4, positions="learned", max_length=7),
    lambda: kseq.models.TransformerEncoder(9, 4, causal=True, max_length=7),
    lambda: kseq.models.TransformerDecoder(9, 4, dropout=0.1),
]
NOT_IN_CONFIG = {"weights"}  # Bidirectional takes initial values of weights, which files hold anyway


@pytest.mark.parametrize("make_instance", MAKERS)
def test_every_argument_is_in_the_config(make_instance):
    instance = make_instance()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    arguments = {p.name for p in inspect.signature(type(instance).__init__).parameters.values() if p.kind in kinds}
    config = instance.get_config()
    assert arguments - {"self"} - NOT_IN_CONFIG <= set(config)
    if isinstance(instance, keras.layers.Layer | keras.losses.Loss | keras.metrics.Metric):
        written = json.loads(json.dumps(keras.saving.serialize_keras_object(instance)))
        assert keras.saving.deserialize_keras_object(written).get_config() == config


@pytest.mark.long
def test_layers_made_with_trainable_false_train_nothing_in_them():
    for make_instance in MAKERS:
        instance = make_instance()
        if isinstance(instance, keras.layers.Layer):
            frozen = type(instance).from_config({**instance.get_config(), "trainable": False})
            assert not [layer for layer in frozen._flatten_layers() if layer.trainable], frozen
            assert all(layer.trainable for layer in instance._flatten_layers()), instance


@pytest.fixture(scope="module")
def made_classes():
    return {type(make_instance()) for make_instance in MAKERS}


@pytest.mark.parametrize("module", ["frontends", "heads", "layers", "losses", "metrics"])
def test_every_class_has_an_instance(module, made_classes):
    namespace = getattr(kseq, module)
    classes = {getattr(namespace, name) for name in namespace.__all__ if inspect.isclass(getattr(namespace, name))}
    kept = {cls for cls in classes if hasattr(cls, "get_config")} - {kseq.heads.Head}  # a base class
    assert kept <= made_classes


def test_no_method_hides_a_property_of_keras(made_classes):
    """Keras reads its properties, some on one backend only."""
    for cls in made_classes:
        ours = [base for base in cls.__mro__ if base.__module__.startswith("kseq")]
        theirs = {name: value for base in cls.__mro__[::-1] if base not in ours for name, value in vars(base).items()}
        of_keras = {name for name, value in theirs.items() if isinstance(value, property)}
        hidden = {name for base in ours for name, value in vars(base).items() if inspect.isfunction(value)} & of_keras
        assert not hidden, cls
