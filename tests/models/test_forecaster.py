"""The forecaster: what its network reads, sample paths, learning, missing values, and wrong arguments."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.support import BACKEND, compiled, traced

HEADS = kseq.heads


def make(head, **options):
    options = {"horizon": 4, "num_paths": 6, **options}
    model = kseq.models.Forecaster(kseq.cells.GRUCell(4), head, **options)
    model.build()
    random = np.random.default_rng(0)
    model.set_weights([0.5 * random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def series(rows=3, time=12, seed=0):
    return (5.0 + np.cumsum(np.random.default_rng(seed).normal(size=(rows, time)), axis=1)).astype("float32")


def step_by_step(model, context):
    """Return the parameters' means and scales after each value of one series, by the cell alone."""
    scale = np.abs(context).mean()
    cell, states = model.rnns[0].cell, model.rnns[0].get_initial_state(1)
    before, found = 0.0, []
    for value in context:
        output, states = cell(np.array([[before / scale, np.log(scale)]], "float32"), states)
        found.append(model.head.parameters(model.to_outputs(output)))
        before = value
    return [(float(scale * p.mean[0]), float(scale * p.scale[0])) for p in found]


def test_each_step_reads_the_scaled_value_before_it():
    model, values = make(HEADS.Normal()), series()
    rows = {"context": values[:, :9], "lengths": [9, 5, 9], "target": values[:, 9:], "target_lengths": [3, 3, 3]}
    parameters = model.head.unstack(model({name: np.asarray(value) for name, value in rows.items()}))
    expected = step_by_step(model, values[0, :9])
    for place, pair in enumerate(expected):
        np.testing.assert_allclose([parameters.mean[0, place], parameters.scale[0, place]], pair, rtol=1e-4)
    # A target follows a short context at once; its scale is that of the context.
    alone = {"context": values[1:2, :5], "lengths": np.array([5])} | {
        name: np.asarray(rows[name])[1:2] for name in ("target", "target_lengths")
    }
    of_row = model.head.unstack(model(alone))
    np.testing.assert_allclose(parameters.mean[1, :8], of_row.mean[0], rtol=1e-4)


@pytest.mark.long
def test_the_scale_of_a_series_scales_its_forecast():
    model, values = make(HEADS.StudentT(), scaling=True), series()
    model.rnns[0].cell.kernel.assign(model.rnns[0].cell.kernel * np.array([[1.0], [0.0]]))  # do not read log s
    one, other = model.forecast(values, seed=1), model.forecast(100.0 * values, seed=1)
    np.testing.assert_allclose(other.quantiles, 100.0 * one.quantiles, rtol=1e-3)


@pytest.mark.long_on_jax
def test_paths_are_drawn_from_the_models_own_distributions():
    """Given the path up to a step, the model's distribution of the step is that of the paths' values."""
    count, context = 400, np.repeat(series(1), 400, axis=0)
    model = make(HEADS.Normal(), num_paths=count)
    model.to_outputs.kernel.assign(5.0 * model.to_outputs.kernel)  # the next mean depends much on a value
    paths = model.forecast(context[:1], horizon=2, seed=3).paths[0]
    rows = {"context": context, "lengths": np.full(count, 12), "target": paths, "target_lengths": np.full(count, 2)}
    parameters = model.head.unstack(model(rows))
    standard = (paths - np.asarray(parameters.mean)[:, 12:]) / np.asarray(parameters.scale)[:, 12:]
    np.testing.assert_allclose(standard.mean(axis=0), 0.0, atol=4 / np.sqrt(count))
    np.testing.assert_allclose(standard.std(axis=0), 1.0, atol=4 / np.sqrt(2 * count))
    assert abs(np.corrcoef(standard.T)[0, 1]) < 4 / np.sqrt(count)
    assert np.asarray(parameters.mean)[:, 13].std() > np.asarray(parameters.scale)[:, 13].mean() / 3


@pytest.mark.long
def test_quantiles_and_mean_are_those_of_the_paths():
    model = make(HEADS.Laplace(), levels=(0.05, 0.5, 0.7))
    forecast = model.forecast(series(), seed=0)
    expected = np.moveaxis(np.quantile(forecast.paths, model.levels, axis=1), 0, -1)
    np.testing.assert_allclose(forecast.quantiles, expected, rtol=1e-5)
    np.testing.assert_allclose(forecast.mean, forecast.paths.mean(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(model.forecast(series(), seed=0).paths, forecast.paths)
    assert (model.forecast(series(), seed=1).paths != forecast.paths).any()
    assert (model.forecast(series()).paths != model.forecast(series()).paths).any()
    seeds = np.array([5, 6, 7], "int32")
    alone = model.forecast(series()[1:2], seed=seeds[1:2]).paths
    np.testing.assert_allclose(alone[0], model.forecast(series(), seed=seeds).paths[1], rtol=1e-4)


@pytest.mark.long
def test_compiled_paths_are_the_same():
    model = make(HEADS.NegativeBinomial())
    inputs = {"context": np.abs(series()).round(), "lengths": np.array([12, 7, 12], "int32")}
    got = compiled(lambda inputs: model.forecast_tensors(inputs, 4, 6, 2))(inputs)
    expected = model.forecast(inputs["context"], lengths=inputs["lengths"], seed=2)
    np.testing.assert_allclose(got.paths, expected.paths, rtol=1e-5)
    assert (expected.paths == np.round(expected.paths)).all()
    assert (expected.paths >= 0).all()


@pytest.mark.long
def test_a_model_that_has_forecast_can_be_trained_and_saved(tmp_path):
    model = kseq.models.Forecaster(kseq.cells.GRUCell(4), kseq.heads.Normal(), horizon=4, num_paths=6)
    before = model.forecast(series(), seed=0).mean
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.forecast(series(), seed=0).mean, before)
    model.compile("sgd", run_eagerly=True, weighted_metrics=[kseq.metrics.MASE(model.levels)])
    rows = {"context": series()[:, :8], "target": series()[:, 8:]}
    weighted = model.evaluate({**rows}, sample_weight=np.array([1.0, 0.0, 0.0]), verbose=0, return_dict=True)
    alone = model.evaluate({name: values[:1] for name, values in rows.items()}, verbose=0, return_dict=True)
    assert weighted["mase"] != pytest.approx(model.evaluate(rows, verbose=0, return_dict=True)["mase"], rel=1e-3)
    assert weighted["mase"] == pytest.approx(alone["mase"], rel=1e-3)


def test_differences_are_summed_up_from_the_last_value():
    model, values = make(HEADS.Normal(), difference=True), series()
    model.to_outputs.kernel.assign(ops.zeros_like(model.to_outputs.kernel))
    model.to_outputs.bias.assign([2.0, -20.0])  # every difference is twice the mean absolute one
    step = 2 * np.abs(np.diff(values, axis=1)).mean(axis=1, keepdims=True)
    expected = values[:, -1:] + step * np.arange(1, 5)
    np.testing.assert_allclose(model.forecast(values, seed=0).mean, expected, rtol=1e-3)


def test_quantiles_are_predicted_at_once_and_do_not_read_the_target():
    model = make(HEADS.Quantiles((0.1, 0.9)), levels=(0.1, 0.5, 0.9))
    values = series()
    forecast = model.forecast(values)
    assert forecast.paths is None
    assert forecast.quantiles.shape == (3, 4, 3)
    np.testing.assert_allclose(forecast.quantiles[..., 1], forecast.quantiles[..., ::2].mean(axis=-1), rtol=1e-5)
    rows = {"context": values, "lengths": np.full(3, 12), "target_lengths": np.full(3, 4)}
    one, other = (model({**rows, "target": np.full((3, 4), value)})[:, 12:] for value in (0.0, 9.0))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(np.sort(one, axis=-1), forecast.quantiles[..., ::2], rtol=1e-4)
    mask = np.asarray(model.compute_mask({**rows, "target": np.zeros((3, 4))}))
    assert mask[:, 12:].all()
    assert not mask[:, :12].any()


@pytest.mark.long
def test_missing_values_are_marked_and_have_no_loss():
    model, values = make(HEADS.Normal(), missing="mask"), series()
    values[0, 4] = values[1, -1] = np.nan
    rows = {
        "context": values[:, :9],
        "lengths": np.full(3, 9),
        "target": values[:, 9:],
        "target_lengths": np.full(3, 3),
    }
    mask = np.asarray(model.compute_mask(rows))
    np.testing.assert_array_equal(mask, ~np.isnan(values))
    assert np.isfinite(model(rows)).all()
    filled = model({**rows, "context": np.nan_to_num(values[:, :9])})
    assert (np.asarray(filled[0, 5]) != np.asarray(model(rows))[0, 5]).any()  # a 0 that is known is not marked
    assert np.isfinite(model.forecast(values[:, :9], seed=0).quantiles).all()
    # A missing value at the end is not taken for a 0.
    values[0, 8] = np.nan
    end = {
        "context": values[:1, :9],
        "lengths": np.array([9]),
        "target": np.zeros((1, 1)),
        "target_lengths": np.ones(1, int),
    }
    parameters = model.head.unstack(model(end))
    drawn = model.forecast(values[:1, :9], horizon=1, num_paths=500, seed=0).paths
    scale = float(parameters.scale[0, 9])
    assert abs(drawn.mean() - float(parameters.mean[0, 9])) < 4 * scale / np.sqrt(500)
    assert (
        abs(
            float(
                parameters.mean[0, 9]
                - model.head.unstack(model({**end, "context": np.nan_to_num(end["context"])})).mean[0, 9]
            )
        )
        > scale / 2
    )
    values[2, :9] = np.nan
    quantiles = model.forecast(values[:, :9], seed=0).quantiles
    assert np.isnan(quantiles[2]).all()
    assert np.isfinite(quantiles[:2]).all()
    for of_model in (make(HEADS.Normal()), make(HEADS.Normal(), difference=True)):
        with pytest.raises(ValueError, match=r'context\[0, 4\] = nan, but .* create the model with missing="mask"'):
            of_model.forecast(values[:, :9])


@pytest.mark.long
@pytest.mark.parametrize("weights", [None, np.array([2.0, 1.0, 3.0]), np.array([[2.0], [1.0], [3.0]])])
def test_a_row_without_a_known_value_does_not_count_in_metrics(weights):
    model, values = make(HEADS.Normal(), missing="mask", difference=True), series()
    values[1, 1:9:2] = np.nan  # no two successive values are known
    rows = {"context": values[:, :9], "target": values[:, 9:]}
    model.compile("sgd", run_eagerly=True, weighted_metrics=[kseq.metrics.WeightedQuantileLoss(model.levels)])
    found = model.evaluate(rows, sample_weight=weights, verbose=0, return_dict=True)["weighted_quantile_loss"]
    quantiles = model.forecast(rows["context"], horizon=3, seed=0).quantiles
    assert np.isnan(quantiles[1]).all()
    others = [0, 2]
    expected = kseq.metrics.WeightedQuantileLoss(model.levels)(
        rows["target"][others], quantiles[others], None if weights is None else weights[others]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.long
def test_huge_values_are_refused_and_hurt_no_other_row():
    model, values = make(HEADS.Normal()), series(2, 6)
    values[1, 2] = -3e38
    with pytest.raises(
        ValueError, match=r"context\[1, 2\] = -3.0\d*e\+38, but .* a finite number, and at most 1e\+30 in size"
    ):
        model.forecast(values)
    run = traced(lambda x: model.forecast_tensors({"context": x, "lengths": np.full(2, 6)}, 4, 6, 0).quantiles)
    quantiles = np.asarray(run(values))
    assert np.isnan(quantiles[1]).all()
    assert np.isfinite(quantiles[0]).all()
    values[1] = np.linspace(-1e30, 1e30, 6)
    assert np.isfinite(run(values)).all()


@pytest.mark.long
@pytest.mark.every_backend
def test_learns_a_seasonal_series_and_evaluates_its_forecasts():
    keras.utils.set_random_seed(0)
    time = np.arange(400)
    values = 3.0 * np.sin(2 * np.pi * time / 8) + np.random.default_rng(0).normal(size=400) * 0.1
    rows = kseq.training.forecast_windows(values[None, :360], 24, 8, stride=3)
    model = kseq.models.Forecaster(kseq.cells.GRUCell(16), HEADS.Normal(), horizon=8, num_paths=50)
    metrics = [of(model.levels) for of in (kseq.metrics.WeightedQuantileLoss, kseq.metrics.MASE, kseq.metrics.Coverage)]
    model.compile(keras.optimizers.Adam(0.02), metrics=metrics)
    history = model.fit(rows, batch_size=64, epochs=40, verbose=0).history
    assert set(history) == {"loss"}
    held_out = kseq.training.forecast_windows(values[None, 328:], 24, 8)
    found = model.evaluate(held_out, verbose=0, return_dict=True)
    assert found["loss"] < 0.5
    assert found["weighted_quantile_loss"] < 0.1
    assert found["mase"] < 0.3
    assert found["coverage"] > 0.5
    quantiles = model.forecast(held_out["context"], seed=0).quantiles
    loss = kseq.metrics.WeightedQuantileLoss(model.levels)
    np.testing.assert_allclose(loss(held_out["target"], quantiles), found["weighted_quantile_loss"], rtol=0.1)


@pytest.mark.long
def test_a_list_of_rows_of_different_lengths_is_padded():
    model = make(HEADS.Normal(), num_features=1)
    values = [row[: 5 + 3 * index] for index, row in enumerate(series())]
    features = [np.ones((len(row), 1)) for row in values]
    future = np.zeros((3, 4, 1))
    together = model.forecast(values, context_features=features, target_features=future, seed=[1, 2, 3])
    for row in range(3):
        alone = model.forecast(
            values[row][None], context_features=features[row][None], target_features=future[:1], seed=[row + 1]
        )
        np.testing.assert_allclose(together.paths[row], alone.paths[0], rtol=1e-4)


WRONG_CALLS = [
    ({"context": np.zeros((0, 5))}, "The batch is empty"),
    ({"context": np.zeros((2, 5, 2))}, r"context must be \(batch, time\) and lengths"),
    ({"context": np.array([["a"] * 5])}, "The values of context have dtype"),
    ({"context": [[1.0, 2.0], []]}, r"context\[1\] has 0 steps, but this model needs at least 1"),
    ({"context": np.ones((2, 5)), "lengths": np.array([5, 6])}, r"lengths\[1\] = 6"),
    ({"context": np.ones((2, 5)), "horizon": 0}, "horizon=0"),
    ({"context": np.ones((2, 5)), "num_paths": 0}, "num_paths=0"),
    ({"context": np.ones((2, 5)), "numbers": np.ones((2, 1))}, r"have \['numbers'\], which this model does not read"),
    ({"context": np.ones((2, 5)), "target_features": np.ones((2, 4, 1))}, "num_features=0"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_CALLS)
def test_wrong_arguments_of_forecast_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(HEADS.Normal()).forecast(**arguments)


def test_wrong_covariates_and_counts_are_refused():
    model = make(HEADS.NegativeBinomial(), category_sizes=(3,), num_features=2, num_numbers=1)
    right = {
        "context_features": np.ones((2, 5, 2)), "target_features": np.ones((2, 4, 2)),
        "categories": np.array([[0], [2]]), "numbers": np.ones((2, 1)),
    }  # fmt: skip
    assert np.isfinite(model.forecast(np.ones((2, 5)), **right).quantiles).all()
    for name, value, message in (
        ("categories", np.array([[0], [3]]), r"categories\[1, 0\] = 3, but that category has ids 0 to 2"),
        ("context_features", np.ones((2, 4, 2)), r"context_features has shape \(2, 4, 2\), but expected \(2, 5, 2\)"),
        ("target_features", np.full((2, 4, 2), np.nan), "target_features has shape .* must be finite"),
        ("numbers", np.full((2, 1), np.inf), "numbers has shape .* must be finite"),
        ("categories", None, r"The inputs must be a dict of .*'categories'"),
    ):
        with pytest.raises(ValueError, match=message):
            model.forecast(np.ones((2, 5)), **{**right, name: value})
    for wrong in (-1.0, 0.5):
        context = np.ones((2, 5))
        context[1, 2] = wrong
        with pytest.raises(ValueError, match=rf"context\[1, 2\] = {wrong}, but .* is a whole number of at least 0"):
            model.forecast(context, **right)
    with pytest.raises(TypeError, match=r"forecast has no arguments \['features'\]"):
        model.forecast(np.ones((2, 5)), features=1)


WRONG_OPTIONS = [
    ({"head": "normal"}, "head='normal', but it must be a head"),
    ({"head": HEADS.Bernoulli(2), "scaling": True}, "cannot be scaled"),
    ({"head": HEADS.NegativeBinomial(), "difference": True}, "difference=True needs a head of numbers of either sign"),
    ({"head": HEADS.Quantiles((0.2, 0.8)), "levels": (0.1, 0.8)}, "quantiles of p from 0.2 to 0.8 alone"),
    ({"missing": "drop"}, "missing='drop'"),
    ({"horizon": 0}, "horizon=0"),
    ({"levels": (0.5, 0.1)}, "levels must be increasing"),
    ({"category_sizes": (0,)}, "category_sizes=0"),
    ({"num_features": -1}, "num_features=-1, but it is a number of covariates"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS)
def test_wrong_options_are_refused(options, message):
    options = {"head": HEADS.Normal(), "horizon": 3, **options}
    with pytest.raises(ValueError, match=message):
        kseq.models.Forecaster(kseq.cells.GRUCell(2), **options)


def test_other_losses_and_levels_are_refused():
    model = make(HEADS.Normal())
    with pytest.raises(ValueError, match="trained by the likelihood of its head"):
        model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"The metric coverage has the levels \(0.1, 0.9\)"):
        model.compile("adam", metrics=[kseq.metrics.Coverage((0.1, 0.9))])
    model.compile("adam")
    with pytest.raises(ValueError, match="lack target"):
        model.fit({"context": np.ones((2, 5))})


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param("context", (2, 2, 6), marks=pytest.mark.every_backend),
        ("target_features", (2, 1, 4)),
        ("numbers", (2, 3, 1)),
    ],
)
def test_rows_of_another_shape_with_as_many_values_are_refused(name, shape):
    model = make(HEADS.Bernoulli(3), num_features=2, num_numbers=3)
    rows = {
        "context": np.zeros((2, 4, 3), "float32"), "lengths": np.full(2, 4, "int32"),
        "context_features": np.zeros((2, 4, 2), "float32"), "numbers": np.zeros((2, 3), "float32"),
        "target": np.zeros((2, 2, 3), "float32"), "target_lengths": np.full(2, 2, "int32"),
        "target_features": np.zeros((2, 2, 2), "float32"),
    }  # fmt: skip
    wrong = {**rows, name: rows[name].reshape(shape)}
    with pytest.raises(ValueError, match=rf"{name} has shape \(2, "):
        traced(model)(wrong)
    if BACKEND == "jax":
        return
    import tensorflow as tf

    specs = {each: tf.TensorSpec(None, values.dtype) for each, values in rows.items()}  # as after batches of two ranks
    specs |= {each: tf.TensorSpec([None], "int32") for each in ("lengths", "target_lengths")}
    run = tf.function(model, input_signature=[specs], autograph=False)
    np.testing.assert_allclose(run(rows), model(rows), atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected shape"):
        run(wrong)
    batches = tf.data.Dataset.from_tensors(wrong)
    for method in (model.fit, model.evaluate, model.predict):
        with pytest.raises(ValueError, match=rf"{name} has shape \(2, "):
            method(batches, verbose=0)


@pytest.mark.long
@pytest.mark.parametrize("wrong", [{"target": np.nan}, {"context": np.inf}, {"lengths": 99}, {"categories": 3}])
def test_a_wrong_row_makes_the_loss_of_a_training_step_nan(wrong):
    model = make(HEADS.Normal(), category_sizes=(3,))
    rows = {
        "context": series(2, 6),
        "lengths": np.array([6, 6]),
        "target": series(2, 2),
        "target_lengths": np.array([2, 2]),
    }
    rows["categories"] = np.array([[0], [2]])
    model.compile("sgd")
    loss = traced(lambda x: model.compute_loss(x, None, model(x, training=True)))
    assert np.isfinite(loss(rows))
    ((name, value),) = wrong.items()
    rows[name] = rows[name].copy()
    rows[name][1, ...] = value
    assert np.isnan(loss(rows))
