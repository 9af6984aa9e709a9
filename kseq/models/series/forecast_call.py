"""The arguments of `Forecaster.forecast`, made into checked arrays."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from kseq.backend import Tensor, as_graph
from kseq.models.inputs.model_inputs import as_dict
from kseq.models.series.paths import Forecast
from kseq.models.series.series_checks import check_series
from kseq.numbers import plain_seed
from kseq.threefry import Words, key_of


def forecast_inputs(model: Any, context: Any, covariates: Mapping[str, Any], horizon: int) -> dict[str, Any]:
    """Return the inputs of a forecast as padded arrays.

    Raises:
        TypeError: If a covariate has a name that the model does not know.
        ValueError: If an array does not fit the model.
    """
    known = ("lengths", "context_features", "target_features", "categories", "numbers")
    if unknown := sorted(set(covariates) - set(known)):
        raise TypeError(f"forecast has no arguments {unknown}; covariates are {known}.")
    given = {name: value for name, value in covariates.items() if value is not None}
    inputs, _ = as_dict(model.names, {"context": context, **given}, None)
    of_past = {name: value for name, value in inputs.items() if name != "target_features"}
    check_series(of_past, model.reads, with_target=False)
    features = given.get("target_features")
    if (features is None) == bool(model.num_features):
        raise ValueError(
            f"The model has num_features={model.num_features}, so forecast needs target_features only if that is above "
            f"0: the covariates of the {horizon} steps."
        )
    rows = len(inputs["context"])
    if features is not None:
        inputs["target_features"] = np.asarray(inputs["target_features"], "float32")
        shape, expected = inputs["target_features"].shape, (rows, horizon, model.num_features)
        if shape != expected or not np.isfinite(inputs["target_features"]).all():
            raise ValueError(f"target_features has shape {shape}, but must be finite numbers of shape {expected}.")
    shortest = int(np.argmin(inputs["lengths"]))
    if inputs["lengths"][shortest] < fewest_steps(model):
        raise ValueError(
            f"context[{shortest}] has {inputs['lengths'][shortest]} steps, but this model needs at least "
            f"{fewest_steps(model)}."
        )
    return {name: np.asarray(value).astype("float32" if name in FLOATS else "int32") for name, value in inputs.items()}


def run_forecast(
    model: Any, graphs: dict[Any, Callable], inputs: Mapping[str, Any], horizon: int, num_paths: int, seed: Any
) -> Forecast:
    """Return a forecast as NumPy arrays, from the second call with equal options on by a graph.

    Args:
        model: The `Forecaster`.
        graphs: The graphs of the model by their options, to which new ones are added.
        inputs: Checked arrays.
        horizon: Number of steps.
        num_paths: Number of paths of each row.
        seed: A seed, or one for each row; None for a fresh one.
    """
    key = key_of(int(np.random.default_rng().integers(2**31)) if seed is None else plain_seed(seed))
    tensors = {name: ops.convert_to_tensor(each) for name, each in inputs.items()}

    def run(inputs: Mapping[str, Tensor], key: Words) -> Forecast:
        return model.forecast_tensors(inputs, horizon, num_paths, key)

    options = horizon, num_paths, model.levels
    found = graphs.get(options, run)(tensors, key)
    graphs.setdefault(options, as_graph(run))  # not of the first call, which may be the only one
    return Forecast(*(None if each is None else ops.convert_to_numpy(each) for each in found))


FLOATS = ("context", "context_features", "target_features", "numbers")


def fewest_steps(model: Any) -> int:
    """Return how many steps a context needs: a value, or a difference of two."""
    return 2 if model.difference else 1
