"""Forecasts of daily exchange rates 30 days ahead, beside a naive forecast, drift and exponential smoothing.

usage: python examples/exchange_rates.py --data FOLDER [--epochs 10] [--output build/models/exchange_rates]

FOLDER holds exchange_rate.csv, a line for each day with the rates of eight countries (G. Lai et al., "Modeling long-
and short-term temporal patterns with deep neural networks", 2018). Holds out the last 150 days as five windows of 30,
trains a `Forecaster` of daily changes with Student's t distribution on the days before them, in some minutes on two
cores, and prints the mean weighted quantile loss of each forecast on the same windows. Draws a fan chart and exports
the model. Needs `pip install "kseq[examples]"`.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from scipy.stats import norm
from statsmodels.tsa.exponential_smoothing.ets import ETSModel

import kseq

HORIZON, WINDOWS = 30, 5
REFERENCE = "0.010 (DeepAR, D. Salinas et al., 2019, on the five windows after these)"


def windows(rates, shift):
    """Yield the days before each held-out window and the window itself, (days, series); `shift` leaves out the last."""
    for window in range(WINDOWS + shift, shift, -1):
        first = len(rates) - HORIZON * window
        yield rates[:first], rates[first : first + HORIZON]


def normal_quantiles(means, deviations, levels):
    """Return quantiles (series, days, levels) of normal distributions with means and deviations (days, series)."""
    return np.stack([(means + norm.ppf(level) * deviations).T for level in levels], axis=-1)


def naive(past, levels, *, drift):
    """A random walk from the last value: its steps are as large as those of the past, with their mean or without."""
    steps, ahead = np.diff(past, axis=0), np.arange(1, HORIZON + 1)[:, None]
    means = past[-1] + drift * steps.mean(axis=0) * ahead
    return normal_quantiles(means, steps.std(axis=0) * np.sqrt(ahead), levels)


def smoothed(past, levels):
    """Simple exponential smoothing, with the weight of the last value and the deviation of greatest likelihood."""
    ahead, means, deviations = np.arange(HORIZON), [], []
    for series in past.T:
        found = ETSModel(series, error="add", trend=None).fit(disp=False)
        means.append(np.full(HORIZON, found.level[-1]))
        deviations.append(np.sqrt(found.mse * (1.0 + ahead * found.smoothing_level**2)))
    return normal_quantiles(np.transpose(means), np.transpose(deviations), levels)


def make_model(series, options):
    return kseq.models.Forecaster(
        kseq.cells.LSTMCell(options.units), kseq.heads.StudentT(), horizon=HORIZON, num_layers=options.layers,
        dropout=options.dropout, category_sizes=(series,), difference=True, num_paths=options.paths,
    )  # fmt: skip


def trained(past, options):
    """Return a model that was trained on windows of the days `past`."""
    keras.utils.set_random_seed(options.seed)
    model = make_model(past.shape[1], options)
    rows = kseq.training.forecast_windows(
        past.T, options.context, HORIZON, count=options.windows, seed=options.seed, categories=identities(past)
    )
    steps = options.epochs * -(-options.windows // options.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps)
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), jit_compile=True)
    model.fit(rows, batch_size=options.batch_size, epochs=options.epochs)
    return model


def identities(rates):
    return np.arange(rates.shape[1])[:, None]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/exchange_rates"))
    parser.add_argument("--shift", type=int, default=0, help="held-out windows end so many windows before the last day")
    for name, default in (("context", 60), ("units", 40), ("layers", 2), ("epochs", 10), ("windows", 6400),
                          ("batch_size", 64), ("paths", 400), ("seed", 0)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    options = parser.parse_args()
    rates, started = np.loadtxt(options.data / "exchange_rate.csv", delimiter=","), time.monotonic()
    held_out = list(windows(rates, options.shift))
    model = trained(held_out[0][0], options)

    def forecast(past, _):
        return model.forecast(past[-options.context :].T, categories=identities(past), seed=options.seed).quantiles

    methods = {
        "Forecaster": forecast,
        "naive": lambda past, levels: naive(past, levels, drift=False),
        "drift": lambda past, levels: naive(past, levels, drift=True),
        "exponential smoothing": smoothed,
    }
    print(f"mean weighted quantile loss, and coverage of the interval of 80 %, of {WINDOWS} windows of {HORIZON} days:")
    for name, method in methods.items():
        loss, coverage = kseq.metrics.WeightedQuantileLoss(model.levels), kseq.metrics.Coverage(model.levels)
        for past, truth in held_out:
            for metric in (loss, coverage):
                metric.update_state(truth.T, method(past, model.levels))
        print(f"  {name}: {float(loss.result()):.5f}, {100 * float(coverage.result()):.0f} %", flush=True)
    print(f"published: {REFERENCE}; trained and compared in {(time.monotonic() - started) / 60:.1f} minutes")

    past, truth = held_out[-1]
    chart = kseq.plots.fan_chart(past[-120:, 0], forecast(past, None)[0], model.levels, truth=truth[:, 0],
                                 title="the first country's rate, and its forecast of the last window")  # fmt: skip
    kseq.export_saved_model(model, options.output, buckets=(options.context,), batch_sizes=(1, 8), seed_input=True)
    picture = options.output.with_name(f"{options.output.name}-forecast.png")
    chart.savefig(picture)
    print(f"A fan chart is drawn in {picture}. To start a server:\n  kseq-serve --model_name={options.output.name} "
          f"--model_base_path={options.output.resolve()} --rest_api_port=8501 --enable_playground")  # fmt: skip


if __name__ == "__main__":
    main()
