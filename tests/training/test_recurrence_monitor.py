"""RecurrenceMonitor in `fit`."""

import csv
import json

import keras
import numpy as np
import pytest

import kseq
from kseq.training import RecurrenceMonitor, state_jacobian_norms


def model_and_data(*layers):
    model = keras.Sequential([keras.Input((None, 2)), *layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    generator = np.random.default_rng(0)
    return model, generator.normal(size=(4, 12, 2)).astype("float32"), generator.normal(size=(4, 1))


def identity(factor, **options):
    return kseq.layers.SimpleRNN(
        2, activation=None, recurrent_initializer=keras.initializers.Identity(factor), **options
    )


@pytest.mark.long
def test_values_are_in_the_logs_of_fit(tmp_path):
    lstm = kseq.layers.LSTM(3, return_sequences=True, name="first")
    model, x, y = model_and_data(lstm, identity(0.5, name="second"))
    monitor = RecurrenceMonitor(x[:2], every=2, file=tmp_path / "reports.jsonl")
    history = model.fit(x, y, epochs=2, verbose=0, callbacks=[monitor, keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    (first, second) = monitor.reports
    names = {f"recurrence/{path}/{name}" for path in (first, second) for name in ("spectral_radius", "gradient_norm")}
    assert names < set(history.history)
    assert f"recurrence/{first}/saturation" in history.history
    assert f"recurrence/{second}/saturation" not in history.history  # it has no activation
    assert [len(each) for each in monitor.history] == [7, 7]  # before training, and after the second epoch
    inputs = lstm(x[:2])
    np.testing.assert_allclose(monitor.reports[second].norms, state_jacobian_norms(model.layers[1], inputs), rtol=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "reports.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["layer"]) for line in lines] == [
        (None, first),
        (None, second),
        (1, first),
        (1, second),
    ]
    (row, *_) = csv.DictReader((tmp_path / "log.csv").read_text().splitlines())
    assert "loss" in row


@pytest.mark.long
@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (0.3, "vanishes"),
        pytest.param(1.0, None, marks=pytest.mark.long),
        pytest.param(2.0, "explodes", marks=pytest.mark.every_backend),
    ],
)
def test_says_once_that_a_gradient_vanishes_or_explodes(factor, verdict, capsys):
    model, x, y = model_and_data(identity(factor, trainable=False))
    model.fit(x, y, epochs=2, verbose=0, callbacks=[RecurrenceMonitor(x[:1])])
    printed = capsys.readouterr().out
    assert printed.count(": the gradient ") == (verdict is not None)
    if verdict:
        assert f"the gradient {verdict}. d s_T / d s_t has norm" in printed
        assert f"over 12 steps, {factor:.3f} a step." in printed


def test_examines_masks_and_layers_inside_models_and_bidirectional_ones():
    encoder = kseq.models.Encoder(9, 4, kseq.cells.GRUCell(3), bidirectional=True)
    model = kseq.models.SequenceClassifier(encoder, 2)
    ids = np.array([[1, 2, 3, 4], [5, 6, 0, 0]], "int32")
    rows = {"source": ids, "source_lengths": np.array([4, 2], "int32"), "target": np.array([0, 1], "int32")}
    monitor = RecurrenceMonitor({name: rows[name] for name in ("source", "source_lengths")}, gradients=True)
    model.compile("sgd")
    model(monitor.inputs)
    monitor.set_model(model)
    reports = monitor.examine()
    assert len(reports) == 2
    for report in reports.values():
        assert np.isnan(report.norms).sum(axis=1).tolist() == [0, 2]
        assert len(report.spectra) == 3


def test_refuses_layers_that_the_model_does_not_run():
    model, x, _ = model_and_data(identity(1.0))
    other = identity(1.0, name="other")
    monitor = RecurrenceMonitor(x, layers=[other])
    monitor.set_model(model)
    with pytest.raises(ValueError, match="does not run other on these inputs"):
        monitor.examine()
    with pytest.raises(ValueError, match="every=0"):
        RecurrenceMonitor(x, every=0)
