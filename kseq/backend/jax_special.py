"""Special functions on JAX."""

import jax
import jax.numpy as jnp

MOST_STEPS = 4000  # of the continued fraction, which needs about the square root of the larger argument
CONVERGED = 1e-9
TINY = 1e-300  # in place of 0 in a denominator


def log_gamma(values: jax.Array) -> jax.Array:
    """Return log |gamma(x)| of each value."""
    return jax.lax.lgamma(values)


def incomplete_beta(a: jax.Array, b: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the regularised incomplete beta function I_x(a, b), see TensorFlow's.

    It is computed in float64 whatever JAX's default is. `jax.scipy.special.betainc` is not: its loops are made when a
    function is compiled, in JAX's default precision. In float32 it has no right digit for large arguments.

    Reference: W. H. Press et al., "Numerical recipes", 2007, section 6.4: the continued fraction by Lentz's method.
    """
    dtype = x.dtype
    with jax.enable_x64(True):
        a, b, x, y = (jnp.asarray(each).astype("float64") for each in (a, b, x, y))
        x, y = jnp.where(x < 0.5, x, 1.0 - y), jnp.where(x < 0.5, 1.0 - x, y)
        swapped = x > (a + 1.0) / (a + b + 2.0)  # beyond it, the fraction of I_y(b, a) converges
        a, b, x, y = (jnp.where(swapped, *pair) for pair in ((b, a), (a, b), (y, x), (x, y)))
        log_y = jnp.where(x < 0.5, jnp.log1p(-x), jnp.log(y))
        log_beta = log_gamma(a) + log_gamma(b) - log_gamma(a + b)
        value = jnp.exp(a * jnp.log(x) + b * log_y - log_beta) / a * _continued_fraction(a, b, x)
        return jnp.where(swapped, 1.0 - value, value).astype(dtype)


def _continued_fraction(a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    def not_zero(values: jax.Array) -> jax.Array:
        return jnp.where(jnp.abs(values) < TINY, TINY, values)

    def goes_on(state: tuple) -> jax.Array:
        step, *_, change = state
        return jnp.logical_and(step < MOST_STEPS, jnp.any(jnp.abs(change - 1.0) > CONVERGED))

    def two_terms(state: tuple) -> tuple:
        step, c, d, fraction, change = state
        m = step.astype("float64")
        even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        for term in (even, odd):
            c, d = not_zero(1.0 + term / c), 1.0 / not_zero(1.0 + term * d)
            change = c * d
            fraction = fraction * change
        return step + 1, c, d, fraction, change

    one = jnp.ones_like(x)
    first = 1.0 / not_zero(1.0 - (a + b) * x / (a + 1.0))
    return jax.lax.while_loop(goes_on, two_terms, (jnp.asarray(1, "int32"), one, first, first, 2.0 * one))[3]
