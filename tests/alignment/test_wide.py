"""Numbers with a separate exponent."""

import numpy as np
import pytest

from kseq.alignment import wide
from kseq.alignment.wide import Wide

LOGS = np.array([0.0, -1e-3, -87.0, -1e4, -1e8, 3.25, 1e4], "float32")


@pytest.mark.long_on_jax
def test_logarithms_survive_the_round_trip():
    back = wide.to_log(wide.from_log(LOGS))
    np.testing.assert_allclose(back, LOGS, rtol=1e-6, atol=1e-7)
    assert float(wide.to_log(wide.from_log(np.array([-np.inf], "float32")))[0]) == -np.inf
    assert float(wide.to_log(wide.from_log(np.array([-1e30], "float32")))[0]) == -np.inf


@pytest.mark.long_on_jax
def test_sums_and_products():
    a, b = (
        wide.normal(wide.from_log(np.array(x, "float32"))) for x in ([-2000.0, -3.0, -1.0], [-2000.5, -900.0, -1.0])
    )
    np.testing.assert_allclose(
        wide.to_log(wide.add(a, b)), np.logaddexp([-2000.0, -3, -1], [-2000.5, -900, -1]), rtol=1e-6
    )
    np.testing.assert_allclose(wide.to_log(wide.multiply(a, b)), [-4000.5, -903, -2], rtol=1e-6)
    np.testing.assert_allclose(wide.to_log(wide.total(a)), np.logaddexp(-3, -1), rtol=1e-6)


@pytest.mark.long_on_jax
def test_zero_stays_zero():
    zero = wide.from_mask(np.array([False]), like=np.ones(1, "float32"))
    half = wide.normal(wide.from_log(np.log(np.array([0.5], "float32"))))
    number = zero
    for _ in range(50):
        number = wide.multiply(wide.normal(wide.add(number, zero)), half)
        assert bool(wide.is_zero(number)[0])
        number = wide.normal(wide.multiply(number, zero))
    np.testing.assert_allclose(wide.to_log(wide.add(half, number)), np.log([0.5]), rtol=1e-6)


@pytest.mark.parametrize("value", [1.0, 1.9999999, 0.3, 5e6, 1e-20])
def test_normal_numbers_are_the_same(value):
    number = wide.normal(Wide(np.array([value], "float32"), np.array([-7], "int32")))
    assert 1.0 <= float(number.mantissa[0]) < 2.0
    assert float(number.mantissa[0]) * 2.0 ** int(number.exponent[0]) == float(np.float32(value)) * 2.0**-7
