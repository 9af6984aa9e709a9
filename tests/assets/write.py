"""Writer of the test assets: models and exports of an earlier kseq, with their inputs and answers.

Run it by hand, on TensorFlow, from the repository's root:

    python -m tests.assets.write            # writes missing files only, such as those of a model added below
    python -m tests.assets.write NAME ...   # rewrites the named models

The present files were written by kseq 0.1.0, before the redesign of its recurrent engine and search loop, with Keras
3.15.1 and TensorFlow 2.21.0. `tests/test_written_before.py` checks that the present kseq still reads them. Rewrite a
file only if its format changes on purpose, and note in the changelog that older files no longer load; never rewrite it
to make a failing test pass.
"""

import json
import pathlib
import shutil
import sys
import tempfile
from typing import Any

import keras
import numpy as np

import kseq

FOLDER = pathlib.Path(__file__).parent
BATCH, TIME, FEATURES = 3, 6, 5
LETTERS = "abc bca cab"


def main(names: list[str]) -> None:
    """Write the named models, or those whose files are missing."""
    for name, make in {**MODELS, **EXPORTS}.items():
        if name in names or not (names or (FOLDER / f"{name}.npz").exists()):
            keras.utils.set_random_seed(7)
            write = write_model if name in MODELS else write_export
            write(name, *make())
            print(name, flush=True)


def write_model(name: str, model: keras.Model, inputs: dict, strategy: Any = None) -> None:
    """Write a model, its answers, the tokens a strategy decodes, and loss and answers of one more training step."""
    if model.compiled:
        train(model, inputs)  # creates the weights
        draw_weights(model, scale=1.0)
        train(model, inputs)  # gives the optimizer a state
    else:
        draw_weights(model)
    model.save(FOLDER / f"{name}.keras")
    arrays = {f"inputs/{key}": value for key, value in inputs.items()}
    arrays |= {f"answers/{index}": value for index, value in enumerate(answers(model, inputs))}
    if strategy is not None:
        arrays["strategy"] = np.array(json.dumps(keras.saving.serialize_keras_object(strategy)))
        arrays |= {f"decoded/{key}": value for key, value in decoded(model, inputs, strategy).items()}
    if model.compiled:
        arrays["loss"] = np.asarray(train(model, inputs))
        arrays |= {f"trained/{index}": value for index, value in enumerate(answers(model, inputs))}
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


def write_export(name: str, model: keras.Model, inputs: dict, options: dict) -> None:
    """Export a model, and write its answers in a session."""
    draw_weights(model, scale=2.0)  # with smaller weights the texts hardly depend on the inputs
    few = {"buckets": (8,), "batch_sizes": (2,), "warmup": False, "serving_config": False}
    with tempfile.TemporaryDirectory() as folder:
        version = kseq.export_saved_model(model, pathlib.Path(folder) / name, **few, **options)
        shutil.make_archive(str(FOLDER / name), "zip", version)  # a tenth of the size
        answers = answers_of_export(version, "serving_default", inputs)
    arrays = {f"inputs/{key}": np.asarray(value) for key, value in inputs.items()}
    arrays |= {f"answers/{key}": value for key, value in answers.items()}
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


def draw_weights(model: keras.Model, scale: float = 0.7) -> None:
    """Draw new values for every weight, so that a lost or exchanged weight changes the answers."""
    random = np.random.default_rng(7)
    for weight in model.weights:
        if weight.dtype == "float32":
            values = random.normal(scale=scale, size=weight.shape)
            weight.assign(np.abs(values) + 0.1 if "variance" in weight.name else values)


def train(model: keras.Model, inputs: dict) -> float:
    """Take a training step and return its loss; models that do not take labels from their inputs need a `y`."""
    y = inputs.get("y")
    return model.train_on_batch({key: inputs[key] for key in inputs if key != "y"}, y, return_dict=True)["loss"]


def answers(model: keras.Model, inputs: dict) -> list[np.ndarray]:
    """Return a model's outputs; for a stateful model those of two successive calls."""
    inputs = {key: value for key, value in inputs.items() if key != "y"}
    calls = 2 if any(getattr(layer, "stateful", False) for layer in model.layers) else 1
    flat = [keras.tree.flatten(model.predict_on_batch(inputs)) for _ in range(calls)]
    return [np.asarray(output) for outputs in flat for output in outputs]


def decoded(model: keras.Model, inputs: dict, strategy: Any) -> dict[str, np.ndarray]:
    """Return the tokens and scores decoded by a Seq2Seq or a recognizer."""
    if "source" in inputs:
        result = model.decode(inputs["source"], inputs["source_lengths"], strategy=strategy, max_length=5)
    else:
        result = model.decode(inputs["features"], inputs["lengths"], strategy=strategy)
    return {"tokens": np.asarray(result.tokens), "scores": np.asarray(result.scores)}


def answers_of_export(folder: pathlib.Path, signature_name: str, inputs: dict) -> dict[str, np.ndarray]:
    """Return the answers of an export in a session, as in TensorFlow Serving; strings as bytes."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers operations of the graph

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        signature = v1.saved_model.load(session, ["serve"], str(folder)).signature_def[signature_name]
        feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
        outputs = session.run({key: info.name for key, info in signature.outputs.items()}, feeds)
    return {key: value.astype("S") if value.dtype == object else value for key, value in outputs.items()}


def functional() -> tuple:
    """Return a compiled model: a masked embedding, then bidirectional, backward and forward layers."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    values = keras.layers.Embedding(9, 4, mask_zero=True)(tokens)
    start = kseq.initializers.orthogonal_gates() | kseq.initializers.chrono_lstm(10)
    values = kseq.layers.Bidirectional(kseq.layers.LSTM(3, return_sequences=True, **start))(values)
    values = kseq.layers.GRU(4, return_sequences=True, go_backwards=True)(values)
    values = kseq.layers.SimpleRNN(4)(values)
    model = keras.Model({"tokens": tokens}, keras.layers.Dense(2)(values))
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    ids = np.array([[3, 5, 8, 1, 2, 2], [4, 7, 1, 0, 0, 0], [6, 0, 0, 0, 0, 0]], "int32")
    return model, {"tokens": ids, "y": np.random.default_rng(0).normal(size=(3, 2)).astype("float32")}


def cells() -> tuple:
    """Return a model with the outputs and final states of every cell and wrapper."""
    from kseq import cells as c

    made = [
        c.SimpleRNNCell(3),
        c.LSTMCell(3),
        c.GRUCell(3),
        c.GRUCell(3, reset_after=False),
        c.PeepholeLSTMCell(3),
        c.CoupledLSTMCell(3),
        c.ProjectionLSTMCell(4, 3),
        c.LayerNormLSTMCell(3),
        c.LayerNormGRUCell(3),
        c.RGLRUCell(3),
        c.MinGRUCell(3),
        c.MinLSTMCell(3),
        c.ZoneoutCell(c.LSTMCell(3), rate=[0.2, 0.1]),
        c.ResidualCell(c.GRUCell(FEATURES)),
        c.DropoutCell(c.LSTMCell(3), input_dropout=0.2, recurrent_dropout=0.1),
        c.LearnedStateCell(c.LSTMCell(3)),
        c.BatchNormCell(c.LSTMCell(3)),
        c.StackedCells([c.LSTMCell(3), c.GRUCell(4), c.ResidualCell(c.MinGRUCell(4))]),
        c.LearnedStateCell(c.ResidualCell(c.ZoneoutCell(c.PeepholeLSTMCell(FEATURES), rate=0.2))),
        [c.LSTMCell(3), c.GRUCell(3)],
    ]
    x = keras.Input((None, FEATURES), name="x")
    masked = keras.layers.Masking()(x)
    pictures = keras.Input((None, 4, 2), name="pictures")
    outputs = [kseq.layers.RNN(cell, return_sequences=True, return_state=True)(masked) for cell in made]
    outputs.append(kseq.layers.RNN(c.ConvLSTMCell(3, 3, rank=1), return_state=True)(pictures))
    random = np.random.default_rng(0)
    data = {"x": sequences(), "pictures": random.normal(size=(BATCH, TIME, 4, 2)).astype("float32")}
    return keras.Model({"x": x, "pictures": pictures}, outputs), data


def layers() -> tuple:
    """Return a model with stacks of layers, stateful layers, and layers with unusual options."""
    layer = kseq.layers
    x = keras.Input(batch_shape=(BATCH, TIME, FEATURES), name="x")
    masked = keras.layers.Masking()(x)
    stack = layer.StackedRNN([layer.LSTM(4), layer.GRU(4)], residual=True, layer_norm=True, return_state=True)
    outputs = [
        stack(masked),
        layer.Bidirectional(layer.StackedRNN([layer.LSTM(3), layer.SimpleRNN(3)]), merge_mode="sum")(masked),
        layer.DeepRNN([layer.GRU(3), layer.LSTM(3)], 2, return_sequences=True)(masked),
        layer.LSTM(3, stateful=True, return_sequences=True)(masked),
        layer.StackedRNN([layer.GRU(3), layer.LSTM(3)], stateful=True)(masked),
        layer.GRU(3, reset_after=False, zero_output_for_mask=True, return_sequences=True)(masked),
        layer.LSTM(3, use_bias=False, activation="relu", recurrent_activation="hard_sigmoid")(masked),
        layer.LSTM(3, implementation=1, dropout=0.2, recurrent_dropout=0.2, unroll=True)(masked),
    ]
    return keras.Model({"x": x}, outputs), {"x": sequences()}


def sequences() -> np.ndarray:
    """Return rows of 6, 3 and 1 steps, `(batch, time, features)`, zeros in the padding."""
    values = np.random.default_rng(1).normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    values[np.arange(TIME) >= np.array([[6], [3], [1]])] = 0.0
    return values


def seq2seq(attention: keras.layers.Layer | None, **options) -> tuple:
    """Return a compiled Seq2Seq and a batch."""
    encoder = kseq.models.Encoder(9, 4, kseq.cells.LSTMCell(3), num_layers=2, residual=True, dropout=0.0)
    decoder = kseq.models.Decoder(8, 4, kseq.cells.GRUCell(4), attention=attention, **options)
    model = kseq.models.Seq2Seq(encoder, decoder)
    model.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    return model, {
        "source": np.array([[3, 5, 8, 1], [4, 7, 0, 0], [6, 0, 0, 0]], "int32"),
        "source_lengths": np.array([4, 2, 1], "int32"),
        "target": np.array([[2, 5, 6, 3], [2, 7, 3, 0], [2, 3, 0, 0]], "int32"),
        "target_lengths": np.array([4, 3, 2], "int32"),
    }


def additive() -> tuple:
    """Return a Seq2Seq with input feeding, whose decoder runs step by step, and a strategy with constraints."""
    from kseq.decoding import constraints

    rules = (constraints.MinimumLength(2), constraints.NoRepeatedNGram(2), constraints.SuppressedTokens((0, 1)))
    strategy = kseq.decoding.BeamSearch(beam_width=3, top_paths=2, length_penalty=0.6, constraints=rules)
    return *seq2seq(kseq.attention.AdditiveAttention(4), input_feeding=True), strategy


def dot_product() -> tuple:
    """Return a Seq2Seq with Luong's attention, whose decoder runs all steps at once."""
    return seq2seq(kseq.attention.DotProductAttention(general=True), num_layers=2)


def recognizer() -> tuple:
    """Return a compiled recognizer of waveforms, with a chain of front ends."""
    front_end = [
        kseq.models.LogMelSpectrogram(1000, bands=4, window_s=0.064, hop_s=0.02),
        kseq.models.FrameConvolutions([3], strides=1, height_strides=2),
        kseq.models.FrameStacking(2),
    ]
    layer = kseq.layers.Bidirectional(kseq.layers.LSTM(3, return_sequences=True))
    model = kseq.models.CTCRecognizer(1, 5, layer, front_end=front_end)
    model.compile(keras.optimizers.Adam(0.01), kseq.losses.CTC(label_smoothing=0.1), jit_compile=False)
    inputs = {
        "features": np.random.default_rng(0).uniform(-1, 1, size=(2, 400, 1)).astype("float32"),
        "lengths": np.array([400, 250], "int32"),
        "labels": np.array([[1, 2, 2], [4, 0, 0]], "int32"),
        "label_lengths": np.array([3, 1], "int32"),
    }
    return model, inputs, kseq.decoding.CTCBeamSearch(beam_width=4, top_paths=2)


def tagger() -> tuple:
    """Return a compiled tagger with word and character embeddings."""
    spelling = kseq.models.CharacterEncoder(7, 3, kseq.cells.LSTMCell(2))
    encoder = kseq.models.WordEncoder(9, 4, kseq.cells.GRUCell(3), characters=spelling)
    model = kseq.models.Tagger(encoder, 4)
    model.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    random = np.random.default_rng(0)
    return model, {
        "source": random.integers(0, 9, size=(2, 4)).astype("int32"),
        "source_lengths": np.array([4, 2], "int32"),
        "characters": random.integers(0, 7, size=(2, 4, 3)).astype("int32"),
        "characters_lengths": random.integers(0, 4, size=(2, 4)).astype("int32"),
        "tags": random.integers(0, 4, size=(2, 4)).astype("int32"),
    }


def exported_seq2seq() -> tuple:
    """Return a text-to-text model with beam search."""
    tokenizer = kseq.text.CharacterTokenizer(normalizer=kseq.text.TextNormalizer(case="lower")).adapt([LETTERS])
    size = tokenizer.vocabulary_size
    encoder = kseq.models.Encoder(size, 3, kseq.cells.LSTMCell(3), bidirectional=False)
    model = kseq.models.Seq2Seq(encoder, kseq.models.Decoder(size, 3, kseq.cells.GRUCell(3)))
    model.build()
    rules = (kseq.decoding.constraints.NoRepeatedNGram(2),)
    strategy = kseq.decoding.BeamSearch(beam_width=3, top_paths=2, length_penalty=0.6, min_length=3, constraints=rules)
    options = {"strategy": strategy, "source": tokenizer, "target": tokenizer, "max_length": 6}
    return model, {"text": ["abc", "CAB abc", ""]}, options


def exported_recognizer() -> tuple:
    """Return a recognizer with prefix beam search and text answers."""
    tokenizer = kseq.text.CharacterTokenizer().adapt([LETTERS])
    layer = kseq.layers.GRU(4, return_sequences=True)
    front_end = kseq.models.FrameConvolutions([3])
    model = kseq.models.CTCRecognizer(3, tokenizer.vocabulary_size, layer, front_end=front_end)
    model.build()
    features = np.random.default_rng(0).normal(size=(2, 8, 3)).astype("float32")
    options = {"strategy": kseq.decoding.CTCBeamSearch(beam_width=3, top_paths=2), "target": tokenizer}
    return model, {"features": features, "lengths": np.array([8, 5], "int32")}, options


MODELS = {make.__name__: make for make in (functional, cells, layers, additive, dot_product, recognizer, tagger)}
EXPORTS = {make.__name__: make for make in (exported_seq2seq, exported_recognizer)}

if __name__ == "__main__":
    main(sys.argv[1:])
