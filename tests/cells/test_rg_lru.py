"""RGLRUCell against its NumPy twin; its initial decays, and decays near one and at one."""

import numpy as np
import pytest
from keras import ops

import kseq
from tests.cells.twins import assert_equals_twin_in_blocks
from tests.reference import linear_recurrence as twins
from tests.reference.recurrence import sigmoid
from tests.support import gradient


def test_equals_its_numpy_twin():
    assert_equals_twin_in_blocks(kseq.cells.RGLRUCell(4), twins.rg_lru_step)


@pytest.mark.parametrize("decay_range", [(0.9, 0.999), (0.5, 0.6)])
def test_decays_begin_uniform_in_their_range(decay_range):
    cell = kseq.cells.RGLRUCell(2000, decay_range=decay_range, seed=0)
    cell.build((None, 1))
    low, high = decay_range
    share = (sigmoid(np.asarray(cell.decay_logit, "float64")) ** 8 - low) / (high - low)
    assert share.min() > -1e-3
    assert share.max() < 1.0 + 1e-3
    np.testing.assert_allclose(np.quantile(share, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)


def test_increments_are_right_for_decays_next_to_one():
    """Computed from the decay in float32, 1 - a^2 would have no correct digits."""
    speed = np.geomspace(1e-10, 1.0, 24).astype("float32")
    r, i, n = np.full((1, 24), -6.0, "float32"), np.zeros((1, 24), "float32"), np.ones((1, 24), "float32")
    _, increment = kseq.cells.RGLRUCell(24).coefficients([*map(ops.convert_to_tensor, (r, i, n))], speed)
    log_decay = -sigmoid(-6.0) * speed.astype("float64")
    np.testing.assert_allclose(increment[0], 0.5 * np.sqrt(-np.expm1(2.0 * log_decay)), rtol=1e-5)


def test_a_gate_that_is_shut_holds_the_state_and_has_a_gradient():
    """The decay is exactly one, where the square root's slope is infinite."""

    def coefficients(r, speed):
        decay, increment = kseq.cells.RGLRUCell(1).coefficients([r, ops.zeros_like(r), ops.ones_like(r)], speed)
        return ops.sum(decay), ops.sum(increment)

    r, speed = np.array([[-200.0]], "float32"), np.array([1.0], "float32")
    decay, increment = coefficients(r, speed)
    assert float(decay) == 1.0
    assert float(increment) < 1e-12
    for gradients in (gradient(lambda *a, k=k: coefficients(*a)[k], r, speed) for k in (0, 1)):
        assert all(np.isfinite(g).all() for g in gradients)


def test_the_decays_logit_stays_in_single_precision():
    layer = kseq.layers.RNN(kseq.cells.RGLRUCell(4, dtype="mixed_bfloat16"), dtype="mixed_bfloat16")
    layer.build((None, None, 5))
    logits = (12.0 + np.arange(4) / 100).astype("float32")  # the same number in bfloat16
    layer.cell.decay_logit.assign(logits)
    seen = []
    coefficients = layer.cell.coefficients
    layer.cell.coefficients = lambda projected, speed: seen.append(np.asarray(speed)) or coefficients(projected, speed)
    layer.cell(np.ones((1, 5), "float32"), layer.cell.get_initial_state(1))
    np.testing.assert_allclose(seen[0], 8.0 * np.log1p(np.exp(-logits.astype("float64"))), rtol=1e-6)


def test_a_wrong_range_is_refused():
    with pytest.raises(ValueError, match=r"decay_range=\(0.5, 1.0\), but it must be \(low, high\) with 0 < low"):
        kseq.cells.RGLRUCell(4, decay_range=(0.5, 1.0))
