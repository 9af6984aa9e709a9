"""Trainings of small models, which are compared: on one device and on several, interrupted and not."""

import contextlib
import json
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

import kseq
from tests.contracts.models import MAKERS

STEPS = 3


def without_dropout(config: Any) -> Any:
    """Return a model's config with all rates of dropout and sampling 0."""
    if isinstance(config, dict):
        return {
            name: 0.0 if ("dropout" in name or name == "probability") and isinstance(value, float) else part
            for name, value in config.items()
            for part in [without_dropout(value)]
        }
    if isinstance(config, list | tuple):
        return [without_dropout(value) for value in config]
    return config


def make(name: str) -> Any:
    """Return a model of the contracts with the same weights at each call; dropout would draw other numbers."""
    keras.utils.set_random_seed(7)
    model = MAKERS[name]()
    model = type(model).from_config(without_dropout(model.get_config()))
    model.build()
    random = np.random.default_rng(1)
    model.set_weights([0.3 * random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def train(
    make_model: Callable,
    make_batches: Callable,
    *,
    scope: Any = None,
    optimizer: Any = None,
    compile_options: Any = None,
    **fit: Any,
) -> dict[str, Any]:
    """Return the epochs' losses and metrics of a training, its evaluation and the weights at its end."""
    with contextlib.nullcontext() if scope is None else scope:
        model = make_model()
        made = keras.optimizers.SGD(0.1) if optimizer is None else optimizer()
        model.compile(made, **(compile_options or {}))
    batches = make_batches()
    history = model.fit(batches, verbose=0, shuffle=False, **{"epochs": STEPS, **fit}).history
    evaluation = model.evaluate(batches, verbose=0, return_dict=True)
    of_epochs = {name: np.array(values) for name, values in history.items()}
    of_evaluation = {f"evaluation/{name}": np.array(value) for name, value in evaluation.items()}
    return {**of_epochs, **of_evaluation, **{f"weight {i}": value for i, value in enumerate(model.get_weights())}}


def differences(got: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
    """Return the largest difference of each of the arrays of two trainings, whose layers Keras numbers."""
    got, expected = ({re.sub(r"_\d+\b", "", name): value for name, value in of.items()} for of in (got, expected))
    assert got.keys() == expected.keys(), (sorted(got), sorted(expected))
    return {name: float(np.max(np.abs(np.asarray(got[name]) - expected[name]), initial=0.0)) for name in expected}


def tagger(**options: Any) -> Any:
    """Return a small model with the same weights at each call."""
    keras.utils.set_random_seed(3)
    model = kseq.models.Tagger(kseq.models.Encoder(12, 4, kseq.cells.GRUCell(4)), 4, **options)
    model.build()
    return model


def tagged(rows: int = 14, batch_size: int | None = 4, **options: Any) -> Any:
    """Return batches for it, of unequal lengths; the last ones of each bucket are completed by rows of length 0."""
    random = np.random.default_rng(5)
    source = [random.integers(0, 12, size=size).tolist() for size in random.integers(1, 9, size=rows)]
    data = {"source": source, "tags": [[token % 4 for token in row] for row in source]}
    return kseq.training.bucket_by_length(data, batch_size=batch_size, buckets=(4, 8), **options)


class Stop(keras.callbacks.Callback):
    """Ends a training in its second epoch."""

    updates = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.updates += 1
        if self.updates == 7:
            raise KeyboardInterrupt


def resumed(make_model: Callable, make_batches: Callable, scope: Callable = contextlib.nullcontext) -> dict[str, float]:
    """Return the differences of a training that was interrupted and one that was not."""

    def run(folder: str, *more: Any) -> dict[str, Any]:
        batches = make_batches()
        callbacks = [kseq.training.ExactResume(folder, batches, every_steps=3), *more]
        return train(make_model, lambda: batches, scope=scope(), callbacks=callbacks)

    with tempfile.TemporaryDirectory() as folder:
        whole = run(f"{folder}/whole")
        with contextlib.suppress(KeyboardInterrupt):
            run(f"{folder}/stopped", Stop())
            raise AssertionError("The training was not interrupted.")
        rest = run(f"{folder}/stopped")
    assert 0 < len(rest["loss"]) < len(whole["loss"]), "not resumed"
    return differences(rest, {n: v if "weight" in n or not v.ndim else v[-len(rest[n]) :] for n, v in whole.items()})


def print_cases(cases: Mapping[str, Callable[[], dict[str, Any]]], of_model: Callable[[str], dict[str, Any]]) -> None:
    """Run the cases named on the command line, or models of the contracts, and print a line of JSON for each."""
    for name in sys.argv[1:]:
        try:
            line = {"case": name, "differences": cases[name]() if name in cases else of_model(name)}
        except Exception as error:
            traceback.print_exc()
            line = {"case": name, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(line), flush=True)
