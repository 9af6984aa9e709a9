"""Loops and gradients on JAX. Docstrings are at the TensorFlow twins."""

from collections.abc import Callable
from typing import Any

import jax

Nest = Any


def scan(
    step: Callable[[Nest, Nest], tuple[Nest, Nest]],
    carry: Nest,
    inputs: Nest,
    *,
    reverse: bool = False,
    unroll: bool = False,
) -> tuple[Nest, Nest]:
    """Run `carry, output = step(carry, input)` over the leading axis of `inputs`."""
    return jax.lax.scan(step, carry, inputs, reverse=reverse, unroll=unroll)


def while_loop(condition: Callable[[Nest], Any], body: Callable[[Nest], Nest], state: Nest) -> Nest:
    """Repeat `state = body(state)` while `condition(state)` holds."""
    return jax.lax.while_loop(condition, body, jax.tree.map(jax.numpy.asarray, state))


def vector_jacobian_product(function: Callable, *primals: Nest) -> tuple[Nest, Callable[[Nest], tuple]]:
    """Return `function(*primals)` and the pullback from an output's cotangent to one cotangent per primal."""
    return jax.vjp(function, *primals)


def custom_gradient(
    primal: Callable[..., Nest],
    forward: Callable[..., tuple[Nest, Nest]],
    backward: Callable[[Nest, Nest], Nest],
    arguments: tuple,
    *,
    keep_residuals: bool,
) -> Nest:
    """Evaluate `primal(*arguments)` with a backward pass of its own.

    JAX runs `forward` only when it differentiates, so `keep_residuals` decides nothing here.
    """
    del keep_residuals
    function = jax.custom_vjp(primal)
    function.defvjp(forward, backward)
    return function(*arguments)
