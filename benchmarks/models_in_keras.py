"""The models of `whole_models.py`, built from Keras's parts or from kseq's, each with one batch of data.

Both variants of a model have weights of the same shapes, which `Built.weights` lists in the same order.
"""

import collections

import numpy as np

# `weights`: trainable weights in the order in which they are copied; `real`: which predictions are not padding.
Built = collections.namedtuple("Built", "model loss x y weights real", defaults=(None,))


def rows_of_tokens(vocabulary, rows, shortest, longest):
    """Return ids `(rows, longest)`, 0 in the padding and at least 4 elsewhere, and the rows' lengths."""
    random = np.random.default_rng(0)
    lengths = np.linspace(shortest, longest, rows).astype("int32")
    ids = random.integers(4, vocabulary, size=(rows, longest)).astype("int32")
    return np.where(np.arange(longest) < lengths[:, None], ids, 0).astype("int32"), lengths


def captcha(package):
    """The captcha reader of keras.io: 16 grey images of 200 x 50, 5 labels of 20 classes."""
    keras, layers = package.keras, package.layers

    def convolution(filters):
        return keras.layers.Conv2D(filters, 3, activation="relu", padding="same", kernel_initializer="he_normal")

    def both_directions(units):
        return layers.Bidirectional(layers.LSTM(units, return_sequences=True, dropout=0.25))

    model = keras.Sequential(
        [
            keras.Input((200, 50, 1)),
            convolution(32),
            keras.layers.MaxPooling2D(2),
            convolution(64),
            keras.layers.MaxPooling2D(2),
            keras.layers.Reshape((50, 12 * 64)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.2),
            both_directions(128),
            both_directions(64),
            keras.layers.Dense(21),
        ]
    )
    random = np.random.default_rng(0)
    images = random.uniform(size=(16, 200, 50, 1)).astype("float32")
    labels = random.integers(1, 21, size=(16, 5)).astype("int32")
    loss = package.kseq.losses.CTC() if package.kseq else keras.losses.CTC()
    return Built(model, loss, images, labels, model.trainable_weights)


def tagger(package):
    """A tagger of tokens: 32 sentences of 5 to 40 words, 17 tags."""
    vocabulary, tags = 10000, 17
    tokens, lengths = rows_of_tokens(vocabulary, 32, 5, 40)
    labels, real = tokens % tags, tokens > 0
    model, loss = tagger_model(package, vocabulary, 100, 128, tags)
    if package.kseq:
        x = {"source": tokens, "source_lengths": lengths, "tags": labels}
        return Built(model, loss, x, None, model.trainable_weights, real)
    return Built(model, loss, tokens, labels, model.trainable_weights, real)


def tagger_model(package, vocabulary, width, units, tags):
    """Return a bidirectional LSTM over embedded words, and its loss."""
    keras, kseq = package.keras, package.kseq
    if kseq:
        model = kseq.models.Tagger(kseq.models.Encoder(vocabulary, width, kseq.cells.LSTMCell(units)), tags)
        model.build()
        return model, kseq.losses.SequenceCrossEntropy()
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(vocabulary, width, mask_zero=True),
            keras.layers.Bidirectional(keras.layers.LSTM(units, return_sequences=True)),
            keras.layers.Dense(tags),
        ]
    )
    return model, keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def sentiment(package):
    """A classifier of texts: 32 texts of 5 to 200 words, masked, two classes."""
    keras, vocabulary = package.keras, 20000
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(vocabulary, 128, mask_zero=True),
            package.layers.GRU(128),
            keras.layers.Dense(1),
        ]
    )
    tokens, lengths = rows_of_tokens(vocabulary, 32, 5, 200)
    labels = (lengths % 2).astype("float32")[:, None]
    return Built(model, keras.losses.BinaryCrossentropy(from_logits=True), tokens, labels, model.trainable_weights)


def translator(package):
    """A translator: 32 sentences of 10 to 20 tokens, vocabularies of 8,000, additive attention."""
    size = 8000
    source, source_lengths = rows_of_tokens(size, 32, 10, 20)
    target, target_lengths = rows_of_tokens(size, 32, 12, 22)
    target[:, 0], target[np.arange(32), target_lengths - 1] = 2, 3  # begin and end
    real = target[:, 1:] > 0
    model, loss, weights = translator_model(package, size, size, 256, 256)
    if package.kseq:
        x = {"source": source, "source_lengths": source_lengths, "target": target, "target_lengths": target_lengths}
        return Built(model, loss, x, None, weights, real)
    return Built(model, loss, (source, target[:, :-1]), target[:, 1:], weights, real)


def translator_model(package, source_size, target_size, width, units):
    """Return an encoder and a decoder of LSTMs with additive attention, its loss, and its weights."""
    keras, kseq = package.keras, package.kseq
    if kseq:
        encoder = kseq.models.Encoder(source_size, width, kseq.cells.LSTMCell(units))
        model = kseq.models.Seq2Seq(encoder, kseq.models.Decoder(target_size, width, kseq.cells.LSTMCell(units)))
        model.build()
        return model, kseq.losses.SequenceCrossEntropy(), model.trainable_weights
    layers = keras.layers
    source, target = (keras.Input((None,), dtype="int32") for _ in range(2))
    read_source = layers.Embedding(source_size, width, mask_zero=True)
    read_target = layers.Embedding(target_size, width)
    encode = layers.Bidirectional(layers.LSTM(units, return_sequences=True, return_state=True))
    bridge, combine = layers.Dense(2 * units, activation="tanh"), layers.Dense(units, activation="tanh")
    decode = layers.LSTM(units, return_sequences=True)
    ask, remember, attend = layers.Dense(units), layers.Dense(units, use_bias=False), layers.AdditiveAttention()
    to_logits = layers.Dense(target_size)
    values, *states = encode(read_source(source))
    initial = bridge(layers.Concatenate()(states))
    hidden = decode(read_target(target), initial_state=[initial[:, :units], initial[:, units:]])
    context = attend([ask(hidden), values, remember(values)])
    logits = to_logits(combine(layers.Concatenate()([hidden, context])))
    used = [read_source, encode, read_target, decode, attend, ask, remember, combine, bridge, to_logits]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    return keras.Model([source, target], logits), loss, [weight for layer in used for weight in layer.trainable_weights]


def characters(package):
    """A character language model: 32 streams of 100 steps, 100 characters; the state goes on from batch to batch."""
    model, loss = characters_model(package, 100, 32, 100)
    text = np.random.default_rng(0).integers(0, 100, size=(32, 101)).astype("int32")
    return Built(model, loss, text[:, :-1], text[:, 1:], model.trainable_weights)


def characters_model(package, size, rows, steps):
    """Return two stateful LSTMs over embedded characters, and its loss."""
    keras = package.keras
    recurrent = [package.layers.LSTM(256, return_sequences=True, stateful=True) for _ in range(2)]
    embedding = keras.layers.Embedding(size, 64)
    model = keras.Sequential(
        [keras.Input(batch_shape=(rows, steps), dtype="int32"), embedding, *recurrent, keras.layers.Dense(size)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return model, package.kseq.losses.SequenceCrossEntropy() if package.kseq else loss


def forecaster(package):
    """A forecaster: 32 series of 100 steps and 8 values, the next 24 steps of one value."""
    keras, layers, units = package.keras, package.layers, 128
    series = keras.Input((100, 8))
    last, *states = layers.LSTM(units, return_state=True)(series)
    hidden = layers.LSTM(units, return_sequences=True)(keras.layers.RepeatVector(24)(last), initial_state=states)
    model = keras.Model(series, keras.layers.Dense(1)(hidden))
    random = np.random.default_rng(0)
    x, y = (random.normal(size=shape).astype("float32") for shape in ((32, 100, 8), (32, 24, 1)))
    return Built(model, keras.losses.MeanSquaredError(), x, y, model.trainable_weights)


def speech(package):
    """A speech recognizer: 8 utterances of 800 frames and 80 bands, all of full length, 60 labels of 29 classes."""
    random = np.random.default_rng(0)
    features = random.normal(size=(8, 800, 80)).astype("float32")
    labels = random.integers(1, 30, size=(8, 60)).astype("int32")
    model, loss, weights = speech_model(package, 80, 30, 128, 256, 3, frames=800)
    if package.kseq:
        lengths, counts = np.full(8, 800, "int32"), np.full(8, 60, "int32")
        x = {"features": features, "lengths": lengths, "labels": labels, "label_lengths": counts}
        return Built(model, loss, x, None, weights)
    return Built(model, loss, features, labels, weights)


def speech_model(package, bands, classes, filters, units, depth, frames=None):
    """Return two convolutions, which halve the frames, and bidirectional LSTMs, its loss, and its weights."""
    keras, layers, kseq = package.keras, package.layers, package.kseq
    recurrent = [layers.Bidirectional(layers.LSTM(units, return_sequences=True)) for _ in range(depth)]
    if kseq:
        front_end = kseq.frontends.FrameConvolutions([filters, filters], strides=(1, 2))
        model = kseq.models.CTCRecognizer(bands, classes, recurrent, front_end=front_end)
        model.build()
        used = [front_end, *recurrent, model.to_logits]
        return model, kseq.losses.CTC(), [weight for layer in used for weight in layer.trainable_weights]
    convolutions = []
    for stride in (1, 2):  # padding="same" would centre the frames of the second one elsewhere
        convolutions += [keras.layers.ZeroPadding1D(1), keras.layers.Conv1D(filters, 3, stride, activation="relu")]
    model = keras.Sequential([keras.Input((frames, bands)), *convolutions, *recurrent, keras.layers.Dense(classes)])
    return model, keras.losses.CTC(), model.trainable_weights


MODELS = {
    "captcha": captcha,
    "tagger": tagger,
    "sentiment": sentiment,
    "translator": translator,
    "characters": characters,
    "forecaster": forecaster,
    "speech": speech,
}
