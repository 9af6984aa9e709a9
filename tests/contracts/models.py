"""A small instance of every model of `kseq.models` that `fit` trains, with a batch; a new model is a line in MAKERS."""

import keras
import numpy as np

import kseq
from tests.contracts.encoders import ENCODERS

IDS, CLASSES = 12, 5


def _encoder(**options):
    return kseq.models.Encoder(IDS, 4, kseq.cells.GRUCell(3), **options)


def _word_encoder():
    characters = kseq.models.CharacterEncoder(IDS, 3, kseq.cells.LSTMCell(2))
    return kseq.models.WordEncoder(IDS, 4, kseq.cells.LSTMCell(3), characters=characters, word_dropout=0.1)


def _seq2seq(**options):
    attention = kseq.attention.AdditiveAttention(4)
    decoder = kseq.models.Decoder(
        IDS, 3 if options else 4, kseq.cells.GRUCell(3), attention=attention, tie_embeddings=bool(options)
    )
    return kseq.models.Seq2Seq(_encoder(), decoder, **options)


def _seq2seq_with_objectives():
    return _seq2seq(
        sampling=kseq.training.ScheduledSampling("constant", probability=0.3, samples="soft"),
        guided_alignment=kseq.training.GuidedAlignment("diagonal"),
        ctc=kseq.training.JointCTC(),
    )


def _recognizer():
    layer = kseq.layers.Bidirectional(kseq.layers.RNN(kseq.cells.GRUCell(3), return_sequences=True))
    return kseq.models.CTCRecognizer(4, CLASSES, layer, front_end=kseq.frontends.FrameStacking(2), dropout=0.1)


def _classifier(task="classification", pooling="last", **options):
    encoder = _encoder(bidirectional="step_weights" not in options)
    return kseq.models.SequenceClassifier(encoder, CLASSES, task=task, pooling=pooling, **options)


def _pointer():
    """Return a model that copies the last half of the source's ids, which are not in the target's vocabulary."""
    copies = [*range(IDS // 2), *[-1] * (IDS // 2)]
    decoder = kseq.models.PointerDecoder(IDS, 4, kseq.cells.GRUCell(3), copies=copies, copied_positions=5)
    return kseq.models.Seq2Seq(_encoder(), decoder)


def _hard_monotonic():
    decoder = kseq.models.HardMonotonicDecoder(IDS, 4, kseq.cells.GRUCell(3), distances=3, dropout=0.1)
    return kseq.models.Seq2Seq(_encoder(), decoder)


def _transformer(positions="sinusoidal"):
    options = {"num_layers": 2, "num_heads": 2, "intermediate_dim": 6, "positions": positions}
    return kseq.models.Seq2Seq(
        kseq.models.TransformerEncoder(IDS, 4, **options), kseq.models.TransformerDecoder(IDS, 4, **options)
    )


def _captions():
    encoder = kseq.models.GridEncoder((4, 6, 2), 4, convolutions=(3,))
    return kseq.models.Seq2Seq(encoder, kseq.models.Decoder(IDS, 4, kseq.cells.GRUCell(3)))


def _forecaster(head, **options):
    levels = (0.2, 0.5, 0.8)
    return kseq.models.Forecaster(kseq.cells.GRUCell(3), head, horizon=3, levels=levels, num_paths=4, **options)


COVARIATES = {"num_features": 2, "category_sizes": (3, CLASSES), "num_numbers": 1, "embedding_dim": 2}


def _language_model():
    encoder = _encoder(bidirectional=False, num_layers=2, residual=True, dropout=0.1)
    return kseq.models.LanguageModel(encoder, dropout=0.1, cutoffs=(5, 9), div_value=1.5)


def _decoder_only():
    encoder = kseq.models.TransformerEncoder(
        IDS, 4, num_layers=2, num_heads=2, intermediate_dim=6, causal=True, max_length=40
    )
    return kseq.models.LanguageModel(encoder, bos_id=None, tie_embeddings=True)


MAKERS = {
    "Seq2Seq": _seq2seq,
    "Seq2Seq, objectives": _seq2seq_with_objectives,
    "Seq2Seq, pointer": _pointer,
    "Seq2Seq, hard monotonic": _hard_monotonic,
    "Seq2Seq, Transformer": _transformer,
    "Seq2Seq, pictures": _captions,
    "CTCRecognizer": _recognizer,
    "LanguageModel": _language_model,
    "LanguageModel, Transformer": _decoder_only,
    "Tagger": lambda: kseq.models.Tagger(_word_encoder(), CLASSES, dropout=0.1),
    "Tagger, CRF": lambda: kseq.models.Tagger(_encoder(), CLASSES, crf=True),
    "SequenceClassifier": lambda: kseq.models.SequenceClassifier(_word_encoder(), CLASSES, dropout=0.1),
    "SequenceClassifier, labels": lambda: _classifier("multi_label", "attention"),
    "SequenceClassifier, numbers": lambda: _classifier("regression", "max"),
    "SequenceClassifier, every step": lambda: _classifier(step_weights="linear"),
    "Forecaster": lambda: _forecaster(kseq.heads.StudentT(), num_layers=2, dropout=0.1, difference=True, **COVARIATES),
    "Forecaster, counts": lambda: _forecaster(kseq.heads.NegativeBinomial(), missing="mask"),
    "Forecaster, quantiles": lambda: _forecaster(kseq.heads.Quantiles((0.2, 0.5, 0.8)), num_features=2),
    "Forecaster, labels": lambda: _forecaster(kseq.heads.Bernoulli(2)),
}
# Models with other encoders, which are trained by the contract of encoders, and exported by that of exports. An
# encoder with the same inputs and operations as these needs no line.
WITH_OTHER_ENCODERS = {
    "CTCRecognizer, Conformer": lambda: kseq.models.CTCRecognizer(
        4, CLASSES, [keras.layers.Dense(4), kseq.layers.ConformerLayer(2, 5, kernel_size=3)]
    ),
    "Tagger, backbone": lambda: kseq.models.Tagger(ENCODERS["BackboneEncoder"](), CLASSES),
    "SequenceClassifier, parallel": lambda: kseq.models.SequenceClassifier(ENCODERS["ParallelEncoder"](), CLASSES),
    "Seq2Seq, pyramid": lambda: kseq.models.Seq2Seq(
        ENCODERS["PyramidalEncoder"](), kseq.models.Decoder(IDS, 4, kseq.cells.GRUCell(3), bridge="mean")
    ),
    "Seq2Seq, vectors": lambda: kseq.models.Seq2Seq(
        ENCODERS["VectorEncoder"](), kseq.models.Decoder(IDS, 4, kseq.cells.GRUCell(3), context="initial")
    ),
}
LENGTHS = np.array([6, 3, 1, 5], "int32")


COVARIATES_OF_ROWS = ("context_features", "target_features", "categories", "numbers")


def series_of(model, random):
    """Return 4 series for a `Forecaster`; the third context has two steps, the fewest that differences need."""
    shape = model.head.event_shape
    values = random.normal(size=(4, 9, *shape))
    values = np.abs(values).round() if model.head.whole else values
    values = (np.clip(values, 0, 1) if shape else values).astype("float32")
    series = {"context": values[:, :6], "target": values[:, 6:], "lengths": np.array([6, 3, 2, 5], "int32")}
    series["target_lengths"] = np.array([3, 3, 2, 3], "int32")
    if model.num_features:
        features = random.normal(size=(4, 9, model.num_features)).astype("float32")
        series |= {"context_features": features[:, :6], "target_features": features[:, 6:]}
    if model.category_sizes:
        series["categories"] = random.integers(0, model.category_sizes, size=(4, len(model.category_sizes)))
    if model.num_numbers:
        series["numbers"] = random.normal(size=(4, model.num_numbers)).astype("float32")
    return series


def batch_of(model, name):
    """Return inputs of 4 rows for a model, with everything that any model reads under these names."""
    random = np.random.default_rng(0)
    batch = {
        "source": random.integers(0, IDS, size=(4, 6)),
        "source_lengths": LENGTHS,
        "characters": random.integers(0, IDS, size=(4, 6, 4)),
        "characters_lengths": random.integers(0, 5, size=(4, 6)),
        "features": random.normal(size=(4, 6, 4)).astype("float32"),
        "lengths": LENGTHS,
        "tags": random.integers(0, CLASSES, size=(4, 6)),
        "target": np.array([[2, 4, 5, 3], [2, 3, 0, 0], [2, 6, 3, 0], [2, 7, 3, 0]]),
        "target_lengths": np.array([4, 2, 3, 3], "int32"),
        "label_lengths": np.array([2, 1, 0, 1], "int32"),
        "labels": np.array([1, 0, 4, 2]),
    }
    if name.endswith("labels"):
        batch["labels"] = random.integers(0, 2, size=(4, CLASSES))
    if name.endswith("numbers"):
        batch["labels"] = random.normal(size=(4, CLASSES)).astype("float32")
    if name.startswith("LanguageModel"):
        batch["target"] = np.roll(batch["source"], -1, axis=1)
    if name.startswith("CTCRecognizer"):
        batch["labels"] = np.array([[1, 2], [3, 0], [0, 0], [4, 0]])
    if getattr(model, "source_shape", None) is not None:
        batch["source"] = random.normal(size=(4, *model.source_shape)).astype("float32")
    if name.startswith("Forecaster"):
        batch |= series_of(model, random)
    names = {model.names.x, model.names.y, *model.names.lengths, *model.names.lengths.values()}
    if name.startswith("Forecaster"):
        names |= {*COVARIATES_OF_ROWS} & {*batch}
    if getattr(getattr(model, "encoder", None), "characters", None) is None:
        names -= {"characters", "characters_lengths"}
    return {
        key: value.astype("int32") if value.dtype == "int64" else value for key, value in batch.items() if key in names
    }
