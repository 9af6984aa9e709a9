"""Every model after a step of training, saved under the backend of this process with its answers.

Usage: KERAS_BACKEND=jax python -m tests.contracts.jax_models FOLDER
"""

import pathlib
import sys

import keras
import numpy as np

import kseq
from tests.contracts.models import MAKERS, WITH_OTHER_ENCODERS, batch_of
from tests.support import compiled

MODELS = MAKERS | WITH_OTHER_ENCODERS
GREEDY = {"strategy": kseq.decoding.GreedySearch(), "max_length": 9}
# Name -> the inputs that are decoded, their names in requests, and the options of `decode` and of an export.
DECODED: dict[str, tuple[dict[str, str], dict]] = {
    "Seq2Seq": ({"source": "tokens", "source_lengths": "lengths"}, GREEDY),
    "CTCRecognizer": ({"features": "features", "lengths": "lengths"}, {}),
    "LanguageModel": ({"source": "prompt", "lengths": "lengths"}, {**GREEDY, "max_length": 9 + 6}),  # with the prompt
}


def file_of(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / f"{list(MODELS).index(name)}.keras"


def decoded_inputs(batch: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    """Return the inputs that are decoded; prompts have no end token."""
    inputs = [batch[each] for each in DECODED[name][0]]
    return [np.where(inputs[0] == 3, 4, inputs[0]), *inputs[1:]] if name == "LanguageModel" else inputs


def save(folder: pathlib.Path, name: str) -> None:
    """Train a model for a step, save it, and its answers beside it."""
    model, random = MODELS[name](), np.random.default_rng(1)
    model.build()
    model.set_weights([0.7 * random.normal(size=weight.shape) for weight in model.get_weights()])
    model.compile("adam")
    batch = batch_of(model, name)
    model.train_on_batch(batch)
    model.save(file_of(folder, name))
    answers = {"outputs": compiled(lambda inputs: model(inputs))(batch)}
    if name in DECODED:
        options = DECODED[name][1]
        decoded = model.decode(*decoded_inputs(batch, name), **options)
        answers |= {"tokens": decoded.tokens}
    np.savez(
        file_of(folder, name).with_suffix(".npz"), **{key: keras.ops.convert_to_numpy(x) for key, x in answers.items()}
    )


if __name__ == "__main__":
    for each in MODELS:
        save(pathlib.Path(sys.argv[1]), each)
