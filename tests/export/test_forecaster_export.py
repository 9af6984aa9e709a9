"""Exported forecasters: seeds and covariates in requests, missing values, and each kind of bad row by itself."""

import numpy as np
import pytest

import kseq

pytestmark = pytest.mark.long


def exported(tmp_path, head, switches=None, **options):
    options = {"horizon": 2, "num_paths": 3, "levels": (0.1, 0.5, 0.9), **options}
    model = kseq.models.Forecaster(kseq.cells.GRUCell(3), head, **options)
    sizes = {"buckets": (8,), "batch_sizes": (4,), "verbose": False, "warmup": False, "serving_config": False}
    folder = kseq.export_saved_model(model, tmp_path / "model", **sizes, **(switches or {}))
    return model, kseq.load_saved_model(folder)


def test_counts_with_covariates_and_seeds(tmp_path):
    head = kseq.heads.NegativeBinomial()
    options = {"num_features": 2, "category_sizes": (3, 5), "num_numbers": 1, "missing": "mask"}
    model, served = exported(tmp_path, head, {"seed_input": True}, **options)
    random = np.random.default_rng(0)
    request = {
        "context": np.array([[3, 1, 4, 1], [5, 9, 2, 6]] * 4, "float32"),
        "lengths": np.array([4, 3] * 4, "int32"),
        "context_features": random.normal(size=(8, 4, 2)),
        "target_features": random.normal(size=(8, 2, 2)),
        "categories": np.array([[0, 4], [2, 1]] * 4),
        "numbers": random.normal(size=(8, 1)),
        "seed": np.arange(8),
    }
    right = served(**request)
    assert not any(right["error"])
    own = {name: value for name, value in request.items() if name != "seed"}
    expected = model.forecast(own.pop("context"), seed=request["seed"], **own)
    for name, value in expected._asdict().items():
        np.testing.assert_allclose(right[name], value, rtol=1e-4, err_msg=name)
    assert (served(**{**request, "seed": request["seed"] + 1})["paths"] != right["paths"]).any()

    wrong = {name: np.array(value) for name, value in request.items()}
    wrong["context"][0, 1] = -2.0
    wrong["context"][1, 1] = 0.5
    wrong["context"][2, 1] = np.inf
    wrong["context"][3, :3] = np.nan
    wrong["lengths"][4] = 0
    wrong["lengths"][5] = 9
    wrong["categories"][6, 1] = 5
    wrong["target_features"][7, 1, 0] = np.nan
    answer = served(**wrong)
    reasons = (
        "context[1] is -2, but the values of real steps must be at least 0 and whole numbers.",
        "context[1] is 0.5, but the values of real steps must be at least 0 and whole numbers.",
        "context[1] is inf, but the values of real steps must be at least 0 and whole numbers.",
        "context has no value that is known: nothing can be forecast from NaN alone.",
        "The row has 0 steps in context, but this model needs at least 1.",
        "lengths is 9, but context has fewer steps.",
        "categories is 5, but it must be at least 0 and at most (2, 4).",
        "target_features is nan, but it must be finite.",
    )
    for got, reason in zip(answer["error"], reasons, strict=True):
        assert got.startswith(reason), got
    assert all(np.isnan(answer[name]).all() for name in ("quantiles", "mean", "paths"))
    # One value that is missing is no error, and a request without lengths has rows of the full length.
    wrong = {name: np.array(value) for name, value in request.items() if name != "lengths"}
    wrong["context"][0, 1] = np.nan
    assert not any(served(**wrong)["error"])
    short = served(**{**wrong, "context_features": wrong["context_features"][:, :3]})
    assert all(reason.startswith("lengths is 4, but context_features has fewer steps") for reason in short["error"])


def test_differences_of_missing_and_huge_values(tmp_path):
    model, served = exported(tmp_path, kseq.heads.Normal(), difference=True, missing="mask")
    values = np.cumsum(np.ones((4, 5)), axis=1).astype("float32")
    values[0, 1::2], values[1, 2:] = np.nan, np.nan
    values[2, :2] = -3e38, 3e38
    answer = served(context=values)
    none = "context has no two successive values that are known: nothing can be forecast from NaN alone."
    huge = "context has a value beyond 1e+30 in size, whose forecast would leave float32."
    assert answer["error"].tolist() == [none, "", huge, ""]
    for name in ("quantiles", "mean", "paths"):
        assert np.isnan(answer[name][[0, 2]]).all()
    np.testing.assert_allclose(answer["mean"][3], model.forecast(values[3:], seed=[0]).mean[0], rtol=1e-4)


def test_differences_and_long_contexts(tmp_path):
    model, served = exported(tmp_path, kseq.heads.StudentT(), difference=True)
    values = np.cumsum(np.random.default_rng(0).normal(size=(3, 9)), axis=1).astype("float32")
    values[1, 2] = np.nan
    answer = served(context=values, lengths=[8, 8, 1])
    assert not answer["error"][0]
    assert answer["error"][1].startswith("context[2] is nan, but the values of real steps must be finite.")
    assert answer["error"][2].startswith("The row has 1 steps in context, but this model needs at least 2.")
    np.testing.assert_allclose(answer["paths"][0], model.forecast(values[:1, :8], seed=[0]).paths[0], rtol=1e-4)
    again = served(context=values[[0, 0]], lengths=[8, 8])["paths"]
    np.testing.assert_array_equal(again[0], again[1])
    assert served(context=values, lengths=[9, 8, 8])["error"][0].startswith("The row has 9 steps in context, but this")


def test_options_that_a_forecaster_has_no_use_for_are_refused(tmp_path):
    with pytest.raises(ValueError, match="max_length=3: a Forecaster has no use for it"):
        exported(tmp_path, kseq.heads.Normal(), {"max_length": 3})
    with pytest.raises(ValueError, match=r"seed_input=True, but Quantiles.* draws no random numbers"):
        exported(tmp_path, kseq.heads.Quantiles((0.1, 0.9)), {"seed_input": True})
    with pytest.raises(ValueError, match=r"lengths_of='b', which must be the name of a plain sequence before it"):
        kseq.models.Serving({"a": kseq.models.StepInputs(dtype="float32", lengths_of="b")}, lambda inputs: inputs)
