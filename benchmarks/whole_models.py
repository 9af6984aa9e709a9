"""Time of whole models as people write them, built from Keras's parts and from kseq's, and in PyTorch.

usage: python benchmarks/whole_models.py [--only captcha tagger ...] [--packages keras kseq torch]
       [--settings auto False True] [--runs 11] [--epoch]

The models, their shapes and data are in `models_in_keras.py` and `models_in_torch.py`. Keras's and kseq's variants have
the same weights, and the script fails if their losses or predictions differ. All contenders use Adam and no metrics.

- settings: the argument `jit_compile` of `compile`. "auto" is the default; if it resolves to one of the other two, that
  one's figures count for it, and the table says which.
- step: a train step as `fit` runs it, `model.train_function` on the iterator of a `tf.data` dataset, without callbacks.
- predict: the prediction of one batch, `model.predict_function`.
- epoch: with --epoch, seconds to the end of a first epoch of 100 steps by `fit`, in a fresh process of each contender.
  It includes building, tracing and compiling the model, but not the imports.
- Contenders take turns in one process. Steps and predictions are medians in milliseconds and, in brackets, half the
  interquartile range; --runs 0 leaves them out.
- The last columns are ratios to kseq in the default setting, of Keras in its best setting and of PyTorch; above 1, kseq
  is faster.
"""

import argparse
import json
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import models_in_torch
import numpy as np
import tensorflow as tf
import torch
from first_step import Package
from models_in_keras import MODELS
from turns import median_and_spread, take_turns

import kseq

PACKAGES = {"keras": Package(keras, keras.layers, None), "kseq": Package(keras, kseq.layers, kseq)}
SETTINGS = {"auto": "auto", "False": False, "True": True}
STEPS = 100  # of the first epoch
# Sums of float32 in another order, carried through up to 400 recurrent steps in three layers.
TOLERANCE = {"rtol": 1e-3, "atol": 2e-4}


def build(name, package, setting):
    """Return the model, compiled in the sense of Keras."""
    keras.utils.set_random_seed(0)
    built = MODELS[name](PACKAGES[package])
    built.model.compile("adam", built.loss, metrics=[], jit_compile=SETTINGS[setting])
    return built


def dataset_of(built):
    """Return an endless dataset of the model's batch."""
    data = built.x if built.y is None else (built.x, built.y)
    return tf.data.Dataset.from_tensors(data).repeat().prefetch(1)


def answers_of(built):
    """Return the loss and the predictions outside of any compiled function."""
    x, y = tf.nest.map_structure(tf.constant, built.x), None if built.y is None else tf.constant(built.y)
    predictions = built.model(x, training=False)
    return float(built.model.compute_loss(x, y, predictions, training=False)), predictions.numpy()


def functions_of(built):
    """Return functions without arguments: a train step, and a prediction, each waiting for its result."""
    model, dataset = built.model, dataset_of(built)
    model.make_predict_function()
    batch = [(tf.nest.map_structure(tf.constant, built.x),)]
    model.fit(dataset, steps_per_epoch=1, shuffle=False, verbose=0)  # makes `train_function`, as users do
    iterator = iter(dataset)
    return {
        "train": lambda: float(model.train_function(iterator)["loss"]),
        "predict": lambda: model.predict_function(batch).numpy(),
    }


def check_equal(name, first, other, built, what):
    """Raise AssertionError if the losses or the predictions of real positions differ."""
    np.testing.assert_allclose(other[0], first[0], rtol=1e-4, err_msg=f"{name}: loss of {what}")
    real = slice(None) if built.real is None else built.real
    np.testing.assert_allclose(other[1][real], first[1][real], **TOLERANCE, err_msg=f"{name}: predictions of {what}")


def contenders(name, options):
    """Return `{(package, setting): functions}`, and what "auto" resolves to for each package."""
    made, resolved, weights, first = {}, {}, None, None
    for package in (package for package in options.packages if package in PACKAGES):
        for setting in options.settings:
            built = build(name, package, setting)
            means = str(built.model.jit_compile)
            if setting == "auto":
                resolved[package] = means
            if (package, means) in made:
                continue
            if weights is None:
                weights = [weight.numpy() for weight in built.weights]
            for weight, value in zip(built.weights, weights, strict=True):
                weight.assign(value)
            answers = answers_of(built)
            first = first or answers
            check_equal(name, first, answers, built, f"{package}, jit_compile={setting}")
            predicted = built.model.predict_on_batch(built.x)
            if name != "characters":  # its state has moved on
                check_equal(name, first, (first[0], predicted), built, f"{package}, compiled")
            made[package, means] = functions_of(built)
    if "torch" in options.packages:
        made["torch", "eager"] = models_in_torch.functions_of(name, MODELS[name](PACKAGES["keras"]))
    return made, resolved


def first_epoch(name, package, setting):
    """Return the seconds to the end of a first epoch, and the setting's meaning."""
    keras.ops.zeros(())  # starts the runtime
    if package == "torch":
        batch = MODELS[name](PACKAGES["keras"])
        start = time.perf_counter()
        train = models_in_torch.functions_of(name, batch)["train"]
        for _ in range(STEPS):
            train()
        return time.perf_counter() - start, "eager"
    start = time.perf_counter()
    built = build(name, package, setting)
    built.model.fit(dataset_of(built), steps_per_epoch=STEPS, shuffle=False, verbose=0)
    return time.perf_counter() - start, str(built.model.jit_compile)


def first_epochs(name, options):
    """Return the seconds of the first epoch by package and meaning of the setting, each of a fresh process."""
    seconds, resolved = {}, {}
    for package in options.packages:
        for setting in ["eager"] if package == "torch" else options.settings:
            if (package, setting) in seconds:  # "auto" means the same
                continue
            command = [sys.executable, __file__, "--measure-epoch", name, package, setting]
            answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            took, means = json.loads(answer.stdout.splitlines()[-1])
            seconds[package, means] = [took]
            if setting == "auto":
                resolved[package] = means
    return seconds, resolved


def print_row(name, what, times, resolved, options):
    """Print one line of the table."""
    cells = []
    for package, setting in options.columns:
        means = resolved.get(package) if setting == "auto" else setting
        same = setting == "auto" and means in options.settings
        measured = times.get((package, means))
        cells.append("-" if measured is None else f"= {means}" if same else median_and_spread(measured))
    median = {key: float(np.median(runs)) for key, runs in times.items()}
    default = median.get(("kseq", resolved.get("kseq")), float("nan"))
    best = min((value for (package, _), value in median.items() if package == "keras"), default=float("nan"))
    ratios = [best / default, median.get(("torch", "eager"), float("nan")) / default]
    print("| " + " | ".join([name, what, *cells, *(f"{ratio:.2f}" for ratio in ratios)]) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--packages", nargs="*", default=["keras", "kseq", "torch"], choices=[*PACKAGES, "torch"])
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--epoch", action="store_true", help="also measure the first epoch")
    parser.add_argument("--measure-epoch", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    if options.measure_epoch:
        return print(json.dumps(first_epoch(*options.measure_epoch)))
    print(f"CPU, {os.cpu_count()} cores, float32, median ms of {options.runs} runs; tensorflow {tf.__version__}, keras "
          f"{keras.__version__}, torch {torch.__version__}, kseq {kseq.__version__}")  # fmt: skip
    options.columns = [(p, s) for p in options.packages if p in PACKAGES for s in options.settings]
    options.columns += [("torch", "eager")] if "torch" in options.packages else []
    head = ["model", "", *(f"{package} {setting}" for package, setting in options.columns)]
    head += ["keras best / kseq default", "torch / kseq default"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name in options.only:
        if options.runs:
            made, resolved = contenders(name, options)
            for what, title in (("train", "step, ms"), ("predict", "predict, ms")):
                times = take_turns({key: functions[what] for key, functions in made.items()}, options.runs)
                print_row(name, title, times, resolved, options)
        if options.epoch:
            print_row(name, f"first {STEPS} steps, s", *first_epochs(name, options), options)
    return None


if __name__ == "__main__":
    main()
