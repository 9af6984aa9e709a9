"""Loops, gradients, random numbers and performance choices on JAX. TensorFlow's functions have the full docstrings."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.core
import keras
import numpy as np
from keras.src.backend.common.stateless_scope import get_stateless_scope  # not in Keras's public API

Nest = Any


def scan(
    step: Callable[[Nest, Nest], tuple[Nest, Nest]],
    carry: Nest,
    inputs: Nest,
    *,
    reverse: bool = False,
    unroll: bool = False,
    fetch_ahead: bool | None = None,
    like: Callable[[], Nest] | None = None,
) -> tuple[Nest, Nest]:
    """Run `carry, output = step(carry, input)` over the leading axis of `inputs`."""
    if unroll or not fetch_ahead:
        return jax.lax.scan(step, carry, inputs, reverse=reverse, unroll=unroll)

    def without_buffers(carry: Nest, at: tuple[Nest, Nest]) -> tuple[Nest, tuple[Nest, Nest]]:
        carry, output = step(carry, at[0])
        return carry, (output, ())

    carry, (outputs, _) = scan_in_place(without_buffers, carry, inputs, (), reverse=reverse)
    return carry, outputs


def scan_in_place(
    step: Callable[[Nest, tuple[Nest, Nest]], tuple[Nest, tuple[Nest, Nest]]],
    carry: Nest,
    inputs: Nest,
    buffers: Nest,
    *,
    reverse: bool = False,
    unroll: bool = False,
    fetch_ahead: bool | Literal["buffers"] = True,
    keep_carries: bool = False,
    like: Callable[[], Nest] | None = None,
    length: jax.Array | None = None,
) -> tuple[Nest, tuple[Nest, Nest]]:
    """Run `carry, (output, buffer) = step(carry, (input, buffer))`, with each element of a buffer overwritten.

    Sizes are always known here, so `length` is never given.
    """
    if keep_carries:
        return _keeping_carries(step, carry, inputs, buffers, reverse, unroll, fetch_ahead)
    if unroll or not fetch_ahead:
        return jax.lax.scan(step, carry, (inputs, buffers), reverse=reverse, unroll=unroll)
    last = jax.tree.leaves((inputs, buffers))[0].shape[0] - 1

    def elements(time: jax.Array | int, buffers: Nest) -> tuple[Nest, Nest]:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, time, keepdims=False), (inputs, buffers))

    def ahead(carry: tuple[Nest, Nest, Nest], time: jax.Array) -> tuple[tuple[Nest, Nest, Nest], Nest]:
        current, buffers, carry = carry
        carry, (output, new) = step(carry, current)
        buffers = jax.tree.map(lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y, time, 0), buffers, new)
        following = jax.numpy.clip(time - 1 if reverse else time + 1, 0, last)
        return (elements(following, buffers), buffers, carry), output

    start = (elements(last if reverse else 0, buffers), buffers, carry)
    (_, buffers, carry), outputs = jax.lax.scan(ahead, start, jax.numpy.arange(last + 1), reverse=reverse)
    return carry, (outputs, buffers)


def _keeping_carries(
    step: Callable, carry: Nest, inputs: Nest, buffers: Nest, reverse: bool, unroll: bool, fetch_ahead: Any
) -> tuple[Nest, tuple[tuple[Nest, Nest], Nest]]:
    def with_carry(carry: Nest, at: tuple[Nest, Nest]) -> tuple[Nest, tuple[Nest, Nest]]:
        carry, (output, buffer) = step(carry, at)
        return carry, ((output, carry), buffer)

    initial = jax.tree.map(jax.numpy.asarray, carry)
    carry, ((outputs, later), buffers) = scan_in_place(
        with_carry, carry, inputs, buffers, reverse=reverse, unroll=unroll, fetch_ahead=fetch_ahead
    )

    def join(first: jax.Array, others: jax.Array) -> jax.Array:
        return jax.numpy.concatenate([others, first[None]] if reverse else [first[None], others])

    return carry, ((outputs, jax.tree.map(join, initial, later)), buffers)


def stateful_scan(
    step: Callable[[Nest, Nest], tuple[Nest, Nest]],
    carry: Nest,
    inputs: Nest,
    variables: list,
    *,
    unroll: bool = False,
    like: Callable[[], Nest] | None = None,
) -> tuple[Nest, Nest]:
    """Like `scan`, for a step that may assign `variables`. Their values are part of the carry."""
    around = get_stateless_scope()

    def pure(carry: tuple[Nest, list], element: Nest) -> tuple[tuple[Nest, list], Nest]:
        state, values = carry
        with keras.StatelessScope() as scope:
            scope.state_mapping.update({} if around is None else around.state_mapping)
            for variable, value in zip(variables, values, strict=True):
                scope.add_update((variable, value))
            state, output = step(state, element)
            values = [scope.get_current_value(variable) for variable in variables]
        return (state, values), output

    values = [_value(variable, around) for variable in variables]
    (carry, values), outputs = jax.lax.scan(pure, (carry, values), inputs, unroll=unroll)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return carry, outputs


def _value(variable: keras.Variable, scope: keras.StatelessScope | None) -> jax.Array:
    """Return a variable's value as stored; `variable.value` would be in the precision of the call."""
    value = None if scope is None else scope.get_current_value(variable)
    return variable._value if value is None else value


def has_accelerator() -> bool:
    """Return whether JAX computes on a GPU or TPU."""
    return jax.default_backend() != "cpu"


def row_groups(batch_size: int, training: bool) -> int:
    """Return the best number of groups of rows in a loop: on JAX one, because more were not faster."""
    return 1


def split_rows(values: jax.Array, count: int, axis: int) -> list[jax.Array]:
    """Return `values` in `count` parts of about the same size along `axis`."""
    return jax.numpy.array_split(values, count, axis)


def differentiates_loops() -> bool:
    """Return whether the backend's own gradient of a loop takes time proportional to the number of steps."""
    return True


def trains_statelessly() -> bool:
    """Return True: Keras's `fit` passes the values of the optimizer's variables through its compiled step."""
    return True


def projects_ahead(rows: int, multiplications: int, features_per_unit: float) -> bool:
    """Return whether inference is faster if the inputs of all steps are projected before the loop.

    On a CPU, compiled code computes the products of a step faster than it reads them from memory. For few rows that is
    not so, but the other loop has no forward-mode gradient, which must not depend on the number of rows.
    """
    return has_accelerator()


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
    differentiable: tuple[Callable, Callable] | None = None,
) -> Nest:
    """Evaluate `primal(*arguments)` with a backward pass of its own.

    JAX runs `forward` only when it differentiates, so `keep_residuals` has no effect here. Nothing is compiled
    by itself, so `differentiable` is never given.
    """
    function = jax.custom_vjp(primal)
    function.defvjp(forward, backward)
    return function(*arguments)


def captured(function: Callable, arguments: tuple) -> list:
    """Return an empty list: JAX itself raises an error for gradients that a custom gradient would lose."""
    return []


def prevent_gradient(values: Nest, message: str) -> Nest:
    """Return the tensors unchanged, but raise an error with `message` when they are differentiated."""

    def refuse(*_: Any) -> Any:
        raise NotImplementedError(message)

    function = jax.custom_jvp(lambda x: x)
    function.defjvp(refuse)
    return function(values)


def without_gradient(function: Callable[[], Nest], variables: list) -> Nest:
    """Return `function()`, with no gradient through the values of these variables."""
    around = get_stateless_scope()
    with keras.StatelessScope() as scope:
        scope.state_mapping.update({} if around is None else around.state_mapping)
        for variable in variables:
            scope.add_update((variable, jax.lax.stop_gradient(_value(variable, around))))
        return jax.tree.map(jax.lax.stop_gradient, function())


def write_position(buffer: jax.Array, values: jax.Array, position: jax.Array, axis: int) -> jax.Array:
    """Return `buffer` with `values`, of length 1 along an axis, at a position."""
    return jax.lax.dynamic_update_slice_in_dim(buffer, values, position, axis)


def under_xla() -> bool:
    """Return True: whatever is compiled on JAX is compiled by XLA."""
    return True


def warn_if(cases: dict[str, jax.Array]) -> None:
    """Issue warnings when a compiled function runs; none if it is exported for a device that this process lacks.

    Args:
        cases: Message -> bool scalar, whether to issue it.
    """
    conditions = jax.numpy.stack(list(cases.values()))

    def warn(found: Any) -> None:
        for message, issued in zip(cases, found, strict=True):
            if issued:
                warnings.warn(message, stacklevel=2)

    def issue(conditions: jax.Array) -> None:
        jax.lax.cond(jax.numpy.any(conditions), lambda: jax.debug.callback(warn, conditions), lambda: None)

    own = jax.local_devices()[0].platform
    platforms = {"cpu", *(("cuda", "rocm") if own == "gpu" else (own,))}
    # A call back into Python lowers for these alone.
    jax.lax.platform_dependent(conditions, default=lambda _: None, **dict.fromkeys(platforms, issue))


def without_autograph(function: Callable) -> Callable:
    """Return the function itself."""
    return function


def require_rows(values: jax.Array, count: int, name: str) -> jax.Array:
    """Return `values`, or raise ValueError if it does not have `count` rows."""
    if values.shape[0] != count:
        raise ValueError(f"{name}: a tensor has shape {values.shape}, but {count} rows were expected.")
    return values


def require_shape(values: jax.Array, shape: Sequence[int | None], name: str) -> jax.Array:
    """Return `values`, or raise ValueError if it does not have `shape`, of which None is any size."""
    fits = len(values.shape) == len(shape)
    if not fits or any(size not in (None, own) for size, own in zip(shape, values.shape, strict=True)):
        raise ValueError(f"{name}: a tensor has shape {values.shape}, but {tuple(shape)} was expected.")
    return values


def size_of(values: jax.Array, axis: int) -> int:
    """Return the size of an axis."""
    return values.shape[axis]


def unknown_rows(values: jax.Array, like: jax.Array) -> jax.Array:
    """Return `values`: JAX knows all shapes."""
    return values


def compiled(function: Callable[..., Nest]) -> Callable[..., Nest]:
    """Return a pure function of nests of tensors, compiled by XLA once for each of their shapes."""
    return jax.jit(function)


def can_compile_part() -> bool:
    """Return False: on JAX a function is compiled as a whole."""
    return False


def compilations() -> int:
    """Return 0."""
    return 0


def recording(tensors: Callable[[], list]) -> str:
    """Return "none": JAX transforms functions and has no tape."""
    return "none"


def compiled_part(function: Callable[..., Nest], traces: Any = None) -> Callable[..., Nest]:
    """Return the function itself."""
    return function


def as_graph(function: Callable[..., Nest]) -> Callable[..., Nest]:
    """Return the function itself: see `runs_eagerly`."""
    return function


def runs_eagerly() -> bool:
    """Return False: a compiled function would keep the values of the variables that it reads."""
    return False


def is_fixed_tensor(value: Any) -> bool:
    """Return whether a value is an array of JAX, which cannot change."""
    return isinstance(value, jax.Array)


def bitcast(values: jax.Array, dtype: str) -> jax.Array:
    """Return the bits of `values` read as another dtype of the same width."""
    return jax.lax.bitcast_convert_type(values, dtype)


def known_value(tensor: Any) -> np.ndarray | None:
    """Return the value of a tensor or array, or None if it is not known before the graph runs."""
    return None if isinstance(tensor, jax.core.Tracer) else np.asarray(tensor)


def random_key_words(seed: Any) -> jax.Array | None:
    """Return the numbers of a key of `jax.random.key`, uint32 `(..., n)`; None if `seed` is something else."""
    is_key = isinstance(seed, jax.Array) and jax.numpy.issubdtype(seed.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(seed) if is_key else None


def random_bits(shape: tuple, seed: keras.random.SeedGenerator) -> jax.Array:
    """Return uint32 random numbers, all 32 bits of which are random."""
    return jax.random.bits(seed.next(), shape, "uint32")


def dropout_mask(like: jax.Array, rate: float, seed: keras.random.SeedGenerator) -> jax.Array:
    """Return a dropout mask of the shape of `like`: 0 with probability `rate`, and 1 / (1 - rate) otherwise."""
    return keras.random.dropout(jax.numpy.ones_like(like), rate, seed=seed)


def fresh_seed() -> jax.Array:
    """Return an int32 scalar seed that differs at each call. Raises ValueError in a compiled function."""
    return keras.random.randint((), 0, 2**31 - 1)
