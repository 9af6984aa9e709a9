"""The loop over any pure step of a layer's variables, with a hand-written backward pass.

Forward, the loop stores the states and, of each product with one of the variables (`kseq.linear.product`), the factor
and the result. Backward, it computes the rest of a step again, differentiates it, and takes the gradient of each such
kernel as one product over all steps after the loop.

All tensors of steps are time-major: `(time, rows, ...)`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops, tree
from keras.src.backend.common.variables import AutocastScope, get_autocast_scope  # no public API

from kseq import backend
from kseq.backend import Tensor
from kseq.compiled_parts import Differentiable
from kseq.linear import multiplied_by

# (state, inputs of the step, constants) -> (new state, outputs)
Step = Callable[[Any, Any, Any], tuple[Any, Any]]


class StepLoop:
    """The time loop of a step: its forward pass, with and without what a gradient needs, and its backward pass.

    Args:
        step: A function `(state, inputs, constants) -> (new state, outputs)` of nests of tensors. It uses no tensors
            except its arguments and the variables. States and outputs are `(rows, ...)`.
        variables: The float variables that the step may use.
    """

    def __init__(self, step: Step, variables: list):
        self._step, self._variables = step, variables
        scope = get_autocast_scope()
        self._autocast = AutocastScope(None if scope is None else scope.dtype)

    @property
    def functions(self) -> Differentiable:
        """The loop with its gradient, in the form of `backend.custom_gradient`."""
        return Differentiable(self.primal, self.forward, self.backward)

    def weights(self) -> list[Tensor]:
        """Return the variables' values, in the precision in which they are stored."""
        with AutocastScope(None):
            return [ops.convert_to_tensor(variable) for variable in self._variables]

    @contextmanager
    def _using(self, weights: list) -> Iterator[None]:
        """Give the variables these values within this context, and the precision of the call."""
        mapping = list(zip(self._variables, weights, strict=True))
        with keras.StatelessScope(state_mapping=mapping), self._autocast:
            yield

    def primal(self, state: Any, inputs: Any, constants: Any, weights: list, length: Any) -> tuple[Any, Any]:
        """Return the final state and the outputs of all steps, `(time, rows, ...)`."""

        def step(state: Any, at: tuple) -> tuple:
            with self._using(weights):
                state, outputs = self._step(state, at[0], constants)
            return state, (outputs, ())

        final, (outputs, _) = backend.scan_in_place(step, state, inputs, (), length=_or_none(length))
        return final, outputs

    def forward(self, state: Any, inputs: Any, constants: Any, weights: list, length: Any) -> tuple:
        """Return what `primal` returns, and the residuals."""

        def step(state: Any, at: tuple) -> tuple:
            products: dict[str, list] = {}

            def multiply(factor: Tensor, kernel: Any) -> Tensor:
                result = ops.matmul(factor, kernel)
                if (name := self._name(kernel)) is not None:
                    products.setdefault(name, []).append((factor, result))
                return result

            with self._using(weights), multiplied_by(multiply):
                state, outputs = self._step(state, at[0], constants)
            return state, ((outputs, products), ())

        final, (((outputs, products), states), _) = backend.scan_in_place(
            step, state, inputs, (), keep_carries=True, length=_or_none(length)
        )
        return (final, outputs), (states, inputs, constants, weights, products, length)

    def _name(self, kernel: Any) -> str | None:
        """Return the name of a variable in the residuals; None for another tensor."""
        places = [place for place, variable in enumerate(self._variables) if variable is kernel]
        return f"{places[0]:04d}" if places else None

    def backward(self, residuals: tuple, cotangents: tuple) -> tuple:
        """Return the gradients of the arguments of `primal`; None for tensors that are not float."""
        states, inputs, constants, weights, products, length = residuals
        d_final, d_outputs = cotangents
        factors = {name: [pair[0] for pair in of] for name, of in products.items()}
        results = {name: [pair[1] for pair in of] for name, of in products.items()}
        with self._using(weights):
            kernels = {name: ops.convert_to_tensor(self._variables[int(name)]) for name in products}
        transposed = {name: ops.transpose(kernel) for name, kernel in kernels.items()}
        fixed = _Floats((constants, weights))

        def step(carry: tuple, at: tuple) -> tuple:
            d_state, d_fixed = carry
            before, inputs, results, d_outputs = at[0]
            state, given = _Floats(before), _Floats(inputs)

            def function(state_floats: list, given_floats: list, fixed_floats: list, results: dict) -> tuple:
                with self._using_products(results, transposed):
                    constants, weights = fixed.merged(fixed_floats)
                    with self._using(weights):
                        new, outputs = self._step(state.merged(state_floats), given.merged(given_floats), constants)
                return _Floats(new).floats, outputs

            _, pullback = backend.vector_jacobian_product(function, state.floats, given.floats, fixed.floats, results)
            d_state, d_given, d_new, d_results = pullback((d_state, d_outputs))
            d_fixed = [total + ops.cast(d, total.dtype) for total, d in zip(d_fixed, d_new, strict=True)]
            return (d_state, d_fixed), ((d_given, d_results), ())

        zeros = [ops.zeros(ops.shape(x), dtype=_at_least_float32(x.dtype)) for x in fixed.floats]
        before = tree.map_structure(lambda x: x[:-1], states)
        (d_state, d_fixed), ((d_inputs, d_results), _) = backend.scan_in_place(
            step,
            (_Floats(tree.map_structure(lambda x: x[-1], states)).of(d_final), zeros),
            (before, inputs, results, d_outputs),
            (),
            reverse=True,
            length=_or_none(length),
        )
        d_constants, d_weights = fixed.with_none(
            [ops.cast(d, x.dtype) for d, x in zip(d_fixed, fixed.floats, strict=True)]
        )
        for name, of in d_results.items():
            terms = [_kernel_gradient(x, d) for x, d in zip(factors[name], of, strict=True)]
            place = int(name)
            d_weights[place] = sum((ops.cast(term, weights[place].dtype) for term in terms), d_weights[place])
        first = _Floats(tree.map_structure(lambda x: x[0], states))
        d_length = () if isinstance(length, tuple) else None
        return first.with_none(d_state), _Floats(inputs).with_none(d_inputs), d_constants, d_weights, d_length

    @contextmanager
    def _using_products(self, results: dict[str, list], transposed: dict[str, Tensor]) -> Iterator[None]:
        """Have `product` return the stored results, in their order, with the gradient of a product."""
        remaining = {name: iter(of) for name, of in results.items()}

        def multiply(factor: Tensor, kernel: Any) -> Tensor:
            name = self._name(kernel)
            return (
                ops.matmul(factor, kernel) if name is None else _known(factor, next(remaining[name]), transposed[name])
            )

        with multiplied_by(multiply):
            yield


class _Floats:
    """The float tensors of a nest, which have gradients, apart from the others."""

    def __init__(self, nest: Any):
        self._nest, self._leaves = nest, tree.flatten(nest)
        self._smooth = [_is_float(leaf) for leaf in self._leaves]

    @property
    def floats(self) -> list:
        """The float tensors."""
        return self.of(self._nest)

    def of(self, nest: Any) -> list:
        """Return those leaves of a nest of the same structure whose places have float tensors."""
        return [leaf for leaf, smooth in zip(tree.flatten(nest), self._smooth, strict=True) if smooth]

    def merged(self, floats: list) -> Any:
        """Return the nest with other float tensors."""
        given = iter(floats)
        leaves = [next(given) if smooth else leaf for leaf, smooth in zip(self._leaves, self._smooth, strict=True)]
        return tree.pack_sequence_as(self._nest, leaves)

    def with_none(self, floats: list) -> Any:
        """Return the nest with these float tensors and None for the others."""
        given = iter(floats)
        return tree.pack_sequence_as(self._nest, [next(given) if smooth else None for smooth in self._smooth])


def _known(factor: Tensor, result: Tensor, transposed: Tensor) -> Tensor:
    """Return `result`, the known product of a factor and a kernel, with the gradient of the factor.

    The gradient of `result` is that of the product.
    """
    return backend.custom_gradient(
        lambda factor, result, transposed: result,
        lambda factor, result, transposed: (result, transposed),
        lambda transposed, d: (ops.matmul(d, transposed), d, ops.zeros_like(transposed)),
        (factor, result, transposed),
        keep_residuals=True,
    )


def _kernel_gradient(factors: Tensor, d_results: Tensor) -> Tensor:
    """Return the gradient of a kernel, given `(time, rows, features)` and `(time, rows, units)`, as one product."""
    flat = [ops.reshape(x, (-1, ops.shape(x)[-1])) for x in (factors, d_results)]
    return ops.matmul(ops.transpose(flat[0]), flat[1])


def _is_float(tensor: Any) -> bool:
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def _at_least_float32(dtype: Any) -> str:
    return keras.backend.result_type(dtype, "float32")


def _or_none(length: Any) -> Tensor | None:
    return None if isinstance(length, tuple) else length
