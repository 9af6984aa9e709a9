"""Forecasts of the columns of any CSV file, each a series: its future with intervals, as a CSV file and a picture.

usage: python examples/forecast.py FILE.csv [--horizon 30] [--context 60] [--head StudentT] [--difference]

The first line of FILE.csv names the columns; columns that are not numbers, such as dates, are left out, and an empty
cell is a missing value. All columns are trained together (many to many: at every step of every column the model
predicts the next value), and all but their last `horizon` steps are used for it. Prints the mean weighted quantile loss
and the MASE on these, beside the last value as forecast, writes the quantiles of the steps after the end, draws the
first column, and exports the model. Needs `pip install "kseq[plots,serving]"`.
"""

import argparse
import csv
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kseq


def read_columns(path):
    """Return the names of the columns of numbers, and their values (steps, columns), NaN in empty cells."""
    with open(path, newline="", encoding="utf-8") as file:
        names, *lines = csv.reader(file)
    columns = {}
    for name, cells in zip(names, zip(*lines, strict=True), strict=True):
        try:
            columns[name] = [float(cell) if cell.strip() else np.nan for cell in cells]
        except ValueError:
            print(f"The column {name!r} is left out: {next(cell for cell in cells if cell.strip())!r} is no number.")
    if not columns:
        raise SystemExit(f"{path} has no column of numbers.")
    return list(columns), np.array([*columns.values()], "float32").T


def make_model(columns, options):
    return kseq.models.Forecaster(
        kseq.cells.LSTMCell(options.units), getattr(kseq.heads, options.head)(), horizon=options.horizon, dropout=0.1,
        category_sizes=(columns,), difference=options.difference, missing="mask", num_paths=200,
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--head", default="StudentT", choices=["Normal", "StudentT", "Laplace", "NegativeBinomial"])
    parser.add_argument("--difference", action="store_true", help="model the changes from step to step")
    for name, default in (("horizon", 30), ("context", 60), ("units", 40), ("epochs", 20), ("batch_size", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/forecast"))
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    names, values = read_columns(options.file)
    identities = np.arange(len(names))[:, None]

    known = values[: -options.horizon]
    rows = kseq.training.forecast_windows(known.T, options.context, options.horizon, categories=identities)
    model = make_model(len(names), options)
    steps = options.epochs * -(-len(rows["context"]) // options.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps)
    metrics = [kseq.metrics.WeightedQuantileLoss(model.levels), kseq.metrics.MASE(model.levels)]
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), metrics=metrics)
    model.fit(rows, batch_size=options.batch_size, epochs=options.epochs)

    window = options.context + options.horizon
    held_out = kseq.training.forecast_windows(
        values[-window:].T, options.context, options.horizon, categories=identities
    )
    found = model.evaluate(held_out, verbose=0, return_dict=True)
    last = [column[np.isfinite(column)][-1] for column in known.T]
    last = np.broadcast_to(np.array(last)[:, None, None], (len(names), options.horizon, 1))
    for metric in metrics:
        naive = type(metric)([0.5])
        naive.update_state(np.concatenate([held_out["context"], held_out["target"]], axis=1), last)
        print(f"{metric.name} of the last {options.horizon} steps: {found[metric.name]:.4f}; of the last value before "
              f"them {float(naive.result()):.4f}")  # fmt: skip

    forecast = model.forecast(values[-options.context :].T, categories=identities, seed=0)
    files = [options.output.with_name(f"{options.output.name}{end}") for end in ("-quantiles.csv", "-fan.png")]
    kseq.export_saved_model(model, options.output, buckets=(options.context,), batch_sizes=(1, 16), seed_input=True)
    with open(files[0], "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["column", "step", *model.levels])
        for name, quantiles in zip(names, forecast.quantiles, strict=True):
            writer.writerows([name, step, *row] for step, row in enumerate(quantiles.tolist(), start=1))
    title = f"{names[0]}: the next {options.horizon} steps"
    kseq.plots.fan_chart(values[-window:, 0], forecast.quantiles[0], model.levels, title=title).savefig(files[1])
    print(f"The forecast is written to {files[0]} and drawn in {files[1]}. To start a server:\n  kseq-serve "
          f"--model_name={options.output.name} --model_base_path={options.output.resolve()} "
          "--rest_api_port=8501")  # fmt: skip


if __name__ == "__main__":
    main()
