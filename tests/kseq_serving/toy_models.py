"""Small SavedModels whose outputs are easy to compute by hand."""

from pathlib import Path

import tensorflow as tf


def _spec(dtype: tf.DType, name: str) -> tf.TensorSpec:
    return tf.TensorSpec([None], dtype, name=name)


def _save(folder: Path, signatures: dict) -> None:
    module = tf.Module()
    module.functions = list(signatures.values())
    tf.saved_model.save(module, str(folder), {name: f.get_concrete_function() for name, f in signatures.items()})


def _slow(n: tf.Tensor) -> dict:
    """Run for about `n` times 0.5 to 10 ms."""
    matrix = tf.eye(300) * 0.5
    _, last = tf.while_loop(lambda i, _: i < tf.reduce_max(n), lambda i, a: (i + 1, a @ matrix @ matrix), (0, matrix))
    return {"n": n + tf.cast(tf.reduce_sum(last) * 0.0, tf.int32)}


def save_toy(folder: Path) -> None:
    """Save signatures x -> x / 2 + 2, text -> upper case, one with two inputs and outputs, a slow and a failing one."""
    _save(
        folder,
        {
            "serving_default": tf.function(lambda x: {"y": x / 2 + 2}, [_spec(tf.float32, "x")]),
            "upper": tf.function(lambda text: {"upper": tf.strings.upper(text, "utf-8")}, [_spec(tf.string, "text")]),
            "echo": tf.function(lambda text: {"text": tf.identity(text)}, [_spec(tf.string, "text")]),
            "pair": tf.function(
                lambda a, b: {"sum": a + tf.cast(b, tf.float32), "twice": b * 2},
                [_spec(tf.float32, "a"), _spec(tf.int32, "b")],
            ),
            "slow": tf.function(_slow, [_spec(tf.int32, "n")]),
            "divide": tf.function(lambda x: {"y": 10 // x}, [_spec(tf.int32, "x")]),
        },
    )


def save_version(folder: Path, version: int) -> None:
    """Save x -> 10 x + version."""
    _save(folder, {"serving_default": tf.function(lambda x: {"y": x * 10.0 + version}, [_spec(tf.float32, "x")])})


def save_weighted(folder: Path) -> None:
    """Save x -> w x, with a variable w of value 3."""
    module = tf.Module()
    module.w = tf.Variable(3.0)
    module.run = tf.function(lambda x: {"y": x * module.w}, [_spec(tf.float32, "x")])
    tf.saved_model.save(module, str(folder), {"serving_default": module.run.get_concrete_function()})


def save_keras_plainly(folder: Path) -> None:
    """Save x -> w x of a Keras layer by `tf.saved_model.save`, which loses w, and x -> 3 x as signature `triple`."""
    import keras

    module = tf.Module()
    module.layer = keras.layers.Dense(1, use_bias=False, name="dense")
    module.layer.build((None, 1))
    module.run = tf.function(lambda x: {"y": module.layer(x[:, None])[:, 0]}, [_spec(tf.float32, "x")])
    module.triple = tf.function(lambda x: {"y": x * 3.0}, [_spec(tf.float32, "x")])
    signatures = {"serving_default": module.run, "triple": module.triple}
    tf.saved_model.save(module, str(folder), {name: f.get_concrete_function() for name, f in signatures.items()})


def save_text(folder: Path) -> None:
    """Save text -> case-folded NFKC, by ops of tensorflow-text."""
    import tensorflow_text

    def fold(text: tf.Tensor) -> dict:
        return {"folded": tensorflow_text.normalize_utf8(tensorflow_text.case_fold_utf8(text), "NFKC")}

    _save(folder, {"serving_default": tf.function(fold, [_spec(tf.string, "text")])})


def save_compiled(folder: Path) -> None:
    """Save x -> 3 x, compiled by XLA."""
    compiled = tf.function(lambda x: x * 3.0, jit_compile=True)
    _save(folder, {"serving_default": tf.function(lambda x: {"y": compiled(x)}, [_spec(tf.float32, "x")])})


def _features(examples: tf.Tensor) -> dict:
    """Parse the features `x`, as `(examples, 1)`, and `extra`, which may be missing."""
    return tf.io.parse_example(
        examples,
        {
            "x": tf.io.FixedLenFeature([1], tf.float32),
            "extra": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0]),
        },
    )


def _classify(inputs: tf.Tensor) -> dict:
    x = _features(inputs)["x"]
    return {"classes": tf.tile([["low", "high"]], [tf.shape(x)[0], 1]), "scores": tf.concat([x, x * 2], 1)}


def save_examples(folder: Path) -> None:
    """Save signatures over `tf.train.Example`: x -> 2 x, x -> low x and high 2 x, and some that are malformed."""
    texts = [_spec(tf.string, "inputs")]
    _save(
        folder,
        {
            "regress": tf.function(lambda inputs: {"outputs": _features(inputs)["x"] * 2}, texts),
            "extra": tf.function(lambda inputs: {"outputs": _features(inputs)["extra"] + 1}, texts),
            "flat": tf.function(lambda inputs: {"outputs": tf.reshape(_features(inputs)["x"], [-1])}, texts),
            "integers": tf.function(lambda inputs: {"outputs": tf.cast(_features(inputs)["x"], tf.int32)}, texts),
            "wide": tf.function(lambda inputs: {"outputs": tf.tile(_features(inputs)["x"], [1, 2])}, texts),
            "constant": tf.function(
                lambda inputs: {"outputs": tf.constant([1.0, 2.0]) + 0 * tf.reduce_sum(_features(inputs)["x"])}, texts
            ),
            "classify": tf.function(_classify, texts),
            "scores": tf.function(lambda inputs: {"scores": _features(inputs)["x"]}, texts),
            "labels": tf.function(lambda inputs: {"classes": _classify(inputs)["classes"]}, texts),
            "unequal": tf.function(
                lambda inputs: {"classes": _classify(inputs)["classes"], "scores": _features(inputs)["x"]}, texts
            ),
            "three": tf.function(lambda inputs: {**_classify(inputs), "more": _features(inputs)["x"]}, texts),
            "other": tf.function(lambda inputs: {"y": _features(inputs)["x"]}, texts),
        },
    )


def save_shapes(folder: Path) -> None:
    """Save x -> x, with the shape of the batch it ran in."""

    def seen(x: tf.Tensor) -> dict:
        return {"x": tf.identity(x), "seen": tf.tile(tf.shape(x)[None], [tf.shape(x)[0], 1])}

    def both(a: tf.Tensor, b: tf.Tensor) -> dict:
        return {"a": tf.identity(a), "b": tf.identity(b)}

    def matrix(dtype: tf.DType, name: str) -> tf.TensorSpec:
        return tf.TensorSpec([None, None], dtype, name=name)

    _save(
        folder,
        {
            "serving_default": tf.function(seen, [matrix(tf.float32, "x")]),
            "text": tf.function(seen, [matrix(tf.string, "x")]),
            "both": tf.function(both, [matrix(tf.float32, "a"), matrix(tf.int32, "b")]),
            "sum": tf.function(lambda x: {"y": tf.reduce_sum(x)}, [matrix(tf.float32, "x")]),
            "twice": tf.function(lambda x: {"y": tf.concat([x, x], 0)}, [matrix(tf.float32, "x")]),
        },
    )


def _spell(text: tf.Tensor) -> dict:
    """Return a text backwards and in upper case, and for each character the position it was made from."""
    read = tf.strings.unicode_split(text, "UTF-8")  # (batch, (time))
    lengths = tf.cast(read.row_lengths(), tf.int32)
    upper = tf.strings.unicode_split(tf.strings.upper(text, "utf-8"), "UTF-8")
    written = tf.stack([read[:, ::-1].to_tensor(), upper.to_tensor()], axis=1)  # (batch, 2, time)
    time = tf.shape(written)[2]
    straight = tf.eye(time, batch_shape=[tf.shape(text)[0]]) * tf.sequence_mask(lengths, time, tf.float32)[:, :, None]
    return {
        "text": tf.strings.reduce_join(written, axis=-1),
        "scores": tf.stack([tf.fill(tf.shape(text), -0.25), tf.where(lengths == 0, -1e30, -1.5)], axis=1),
        "alignments": tf.stack([0.75 * tf.reverse_sequence(straight, lengths, 1), straight], axis=1),
        "source_tokens": read.to_tensor(),
        "target_tokens": written,
    }


def save_speller(folder: Path) -> None:
    """Save text -> two hypotheses (one for an empty text) with scores and attention, and signatures that lack some."""
    texts = [_spec(tf.string, "text")]

    def without(*names: str) -> tf.types.experimental.PolymorphicFunction:
        return tf.function(lambda text: {k: v for k, v in _spell(text).items() if k not in names}, texts)

    def with_ids(text: tf.Tensor) -> dict:
        said = _spell(text)
        return said | {name: tf.strings.length(said[name]) for name in ("source_tokens", "target_tokens")}

    _save(
        folder,
        {
            "serving_default": without(),
            "ids": tf.function(with_ids, texts),
            "unnamed": without("source_tokens", "target_tokens"),
            "plain": without("source_tokens", "target_tokens", "alignments"),
        },
    )


KINDS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "float32", "float64")


def save_kinds(folder: Path) -> None:
    """Save an input and an equal output of each dtype that JSON can express; strings as text and as bytes."""
    names = [*KINDS, "string"]

    def same(**inputs: tf.Tensor) -> dict:
        return {f"same_{name}": tf.identity(inputs[name]) for name in names}

    blob = tf.function(lambda text: {"blob_bytes": tf.identity(text)}, [_spec(tf.string, "text")])
    half = tf.function(lambda x: {"y": x * 2}, [_spec(tf.float16, "x")])
    table = tf.function(lambda x: {"y": tf.tile(x[:, None], [1, 3])}, [_spec(tf.float32, "x")])
    everything = tf.function(same).get_concrete_function(**{name: _spec(tf.as_dtype(name), name) for name in names})
    module = tf.Module()
    module.functions = [blob, half, table]
    tf.saved_model.save(
        module,
        str(folder),
        {
            "serving_default": everything,
            "blob": blob.get_concrete_function(),
            "half": half.get_concrete_function(),
            "table": table.get_concrete_function(),
        },
    )
