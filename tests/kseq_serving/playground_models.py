"""SavedModels with each kind of input and answer that the playground has a form for, and their card."""

import base64
import json
from pathlib import Path

import tensorflow as tf

RED, BLUE = (
    tf.io.encode_png(tf.constant([[colour] * 8] * 4, tf.uint8)).numpy() for colour in ((255, 0, 0), (0, 0, 255))
)
CARD = {
    "title": "Gallery <b>of kinds</b>",
    "description": "Finds the capitals in a text.",
    "examples": [
        {"inputs": {"text": "Ada met Alan"}},
        {"name": "words", "signature_name": "words", "inputs": {"words": ["New York", "is", "Big"]}},
        {
            "name": "a picture",
            "signature_name": "picture",
            "inputs": {"image_bytes": {"b64": base64.b64encode(RED).decode()}},
        },
    ],
}


def _tags(text: tf.Tensor) -> dict:
    """Tag each word of a text as a name or another word, padded as exports are; refuse an empty text."""
    tokens = tf.pad(tf.strings.split(text).to_tensor(), [[0, 0], [0, 2]], constant_values="")
    is_name = tf.strings.regex_full_match(tokens, "[A-Z].*")
    return {
        "tokens": tokens,
        "tags": tf.where(tokens == "", "", tf.where(is_name, "NAME", "WORD")),
        "scores": tf.where(tokens == "", 0.0, tf.where(is_name, 0.75, 0.5)),
        "error": tf.where(text == "", "The text is empty.", ""),
    }


def _tag_ids(words: tf.Tensor) -> dict:
    is_name = tf.strings.regex_full_match(words, "[A-Z].*")
    return {"tags": tf.cast(is_name, tf.int32), "error": tf.fill(tf.shape(words)[:1], "")}


def _classify(image_bytes: tf.Tensor) -> dict:
    rows = tf.shape(image_bytes)[0]
    is_red = tf.map_fn(lambda file: tf.reduce_all(tf.io.decode_png(file)[:, :, 0] == 255), image_bytes, tf.bool)
    best = tf.where(is_red, "red", "blue")
    other = tf.where(is_red, "blue", "red")
    return {
        "classes": tf.stack([best, other], axis=1),
        "probabilities": tf.tile([[0.9, 0.1]], [rows, 1]),
        "error": tf.fill([rows], ""),
    }


def _sum(features: tf.Tensor, lengths: tf.Tensor) -> dict:
    mask = tf.sequence_mask(lengths, tf.shape(features)[1], tf.float32)[:, :, None]
    is_bad = tf.reduce_any(tf.math.is_nan(features), [1, 2])
    return {
        "vectors": tf.reduce_sum((features + 1.0) * mask, axis=1),
        "error": tf.where(is_bad, "features has NaN", ""),
    }


def save_gallery(folder: Path) -> None:
    """Save the signatures, and the card."""

    def spec(name: str, *shape: int | None, dtype: tf.DType = tf.string) -> tf.TensorSpec:
        return tf.TensorSpec([None, *shape], dtype, name=name)

    functions = {
        "serving_default": tf.function(_tags, [spec("text")]),
        "words": tf.function(_tag_ids, [spec("words", None)]),
        "picture": tf.function(_classify, [spec("image_bytes")]),
        "features": tf.function(_sum, [spec("features", None, 3, dtype=tf.float32), spec("lengths", dtype=tf.int32)]),
        "pixels": tf.function(
            lambda pixels: {"mean": tf.reduce_mean(pixels, [1, 2, 3])}, [spec("pixels", 64, 64, 3, dtype=tf.float32)]
        ),
        "ids": tf.function(lambda ids: {"sum": tf.reduce_sum(ids, axis=1)}, [spec("ids", None, dtype=tf.int32)]),
    }
    module = tf.Module()
    module.functions = list(functions.values())
    signatures = {name: function.get_concrete_function() for name, function in functions.items()}
    tf.saved_model.save(module, str(folder), signatures)
    write_card(folder, json.dumps(CARD))


def write_card(folder: Path, content: str) -> None:
    """Write a version's card."""
    (folder / "assets.extra").mkdir(exist_ok=True)
    (folder / "assets.extra" / "kseq_playground.json").write_text(content, encoding="utf-8")
