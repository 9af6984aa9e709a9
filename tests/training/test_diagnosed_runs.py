"""Three runs that go wrong, diagnosed by both monitors, with pictures: vanishing, exploding gradients, and NaN."""

import keras
import numpy as np
import pytest

import kseq
from kseq.training import GradientMonitor, RecurrenceMonitor

pytestmark = pytest.mark.long
STEPS = 40


def run(initializer, folder, activation="tanh", planted=None):
    """Train a simple RNN to tell the sign of the first of 40 numbers; return its monitors and the history."""
    random = np.random.default_rng(0)
    x = random.normal(size=(64, STEPS, 1)).astype("float32")
    y = (x[:, 0] > 0).astype("float32")
    if planted is not None:
        x[planted, 7] = np.nan
    layer = kseq.layers.SimpleRNN(8, activation=activation, recurrent_initializer=initializer, name="rnn")
    model = keras.Sequential([keras.Input((STEPS, 1)), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), keras.losses.BinaryCrossentropy(from_logits=True))
    monitors = RecurrenceMonitor(np.nan_to_num(x[:2])), GradientMonitor(folder)
    history = model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, callbacks=[*monitors])
    return *monitors, history.history


def draw(recurrence, history, folder):
    (report,) = recurrence.reports.values()
    kseq.plots.gradient_decay(report.norms).savefig(folder / "gradients.png")
    kseq.plots.eigenvalue_plot(report.spectra).savefig(folder / "eigenvalues.png")
    if report.saturation:
        kseq.plots.saturation_plot(report.saturation).savefig(folder / "saturation.png")
    names = ["loss", "gradient/norm"]
    kseq.plots.training_curves({name: history[name] for name in names}).savefig(folder / "training.png")
    assert all(path.stat().st_size > 1000 for path in folder.glob("*.png"))


def test_a_vanishing_gradient(tmp_path, capsys):
    recurrence, gradients, history = run(keras.initializers.Orthogonal(0.3), tmp_path)
    (report,) = recurrence.reports.values()
    assert report.flow.verdict == "vanishes"
    assert report.flow.factor < 0.5
    assert next(iter(report.spectra.values())).spectral_radius < 0.6
    assert gradients.found is None
    assert "the gradient vanishes" in capsys.readouterr().out
    draw(recurrence, history, tmp_path)


def test_an_exploding_gradient(tmp_path, capsys):
    recurrence, _, history = run(keras.initializers.Identity(1.5), tmp_path, activation="linear")
    factors = [value for name, value in recurrence.history[0].items() if name.endswith("gradient_factor")]
    np.testing.assert_allclose(factors[0], 1.5, rtol=1e-4)
    assert history["gradient/largest_norm"][0] > 1e4
    assert "the gradient explodes" in capsys.readouterr().out
    draw(recurrence, history, tmp_path)


def test_a_planted_nan(tmp_path):
    recurrence, gradients, history = run("orthogonal", tmp_path, planted=35)
    assert gradients.found.source == "input x"
    assert gradients.found.detail == "has NaN in row 3, first at (3, 7, 0)."
    assert (gradients.found.epoch, gradients.found.step) == (0, 2)
    assert (tmp_path / "not_finite-1-3.npz").is_file()
    assert history["gradient/not_finite"] == [1.0]
    draw(recurrence, history, tmp_path)
