"""Every argument of a public class's constructor is in its config: what is left out is lost in every file."""

import inspect
import json

import keras
import pytest

import kseq
from tests.contracts.cells import CELLS, build_cell
from tests.contracts.test_attention_contract import CASES, make

LSTM = kseq.layers.LSTM(3)
INSTANCES = [
    *(build_cell(cell) for cell in CELLS),
    *(make(mechanism, **options) for mechanism, options in CASES.values()),
    kseq.layers.RNN(kseq.cells.LSTMCell(3)),
    kseq.layers.SimpleRNN(3),
    kseq.layers.GRU(3),
    LSTM,
    kseq.layers.Bidirectional(LSTM),
    kseq.layers.StackedRNN([LSTM]),
    kseq.layers.DeepRNN([LSTM], 2),
    kseq.losses.AlignmentLoss(),
    kseq.losses.CTC(),
    kseq.losses.SequenceCrossEntropy(),
    kseq.metrics.CharacterErrorRate(),
    kseq.metrics.EditDistance(),
    kseq.metrics.TokenAccuracy(),
    kseq.metrics.WordErrorRate(),
    kseq.models.FrameConvolutions((3, 4)),
    kseq.models.FrameStacking(2),
    kseq.models.LogMelSpectrogram(8000),
    kseq.models.CTCRecognizer(3, 4, kseq.layers.LSTM(3, return_sequences=True)),
    kseq.models.Encoder(9, 4, kseq.cells.GRUCell(3)),
    kseq.models.Decoder(9, 4, kseq.cells.GRUCell(3)),
    kseq.models.Tagger(kseq.models.Encoder(9, 4, kseq.cells.GRUCell(3)), 5),
]
NOT_KEPT = {"weights"}  # Keras's Bidirectional takes initial values of its weights, which are in files already


@pytest.mark.parametrize("instance", INSTANCES, ids=lambda x: type(x).__name__)
def test_every_argument_is_in_the_config(instance):
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    arguments = {p.name for p in inspect.signature(type(instance).__init__).parameters.values() if p.kind in kinds}
    config = instance.get_config()
    assert arguments - {"self"} - NOT_KEPT <= set(config)
    if isinstance(instance, keras.layers.Layer | keras.losses.Loss | keras.metrics.Metric):
        written = json.loads(json.dumps(keras.saving.serialize_keras_object(instance)))
        assert keras.saving.deserialize_keras_object(written).get_config() == config


@pytest.mark.parametrize("module", ["layers", "losses", "metrics"])
def test_every_class_has_an_instance(module):
    namespace = getattr(kseq, module)
    classes = {getattr(namespace, name) for name in namespace.__all__ if inspect.isclass(getattr(namespace, name))}
    kept = {cls for cls in classes if hasattr(cls, "get_config")}
    assert kept <= {type(instance) for instance in INSTANCES}
