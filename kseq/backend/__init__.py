"""The only place that knows which Keras backend runs.

Everything above it is written in `keras.ops` and in the functions here, which mean the same on TensorFlow and on JAX:

- `scan`: a loop over the leading axis that carries a state and stacks its outputs;
- `scan_in_place`: the same, overwriting tensors that are used no more;
- `stateful_scan`: the same for steps that assign variables, differentiated by the backend;
- `projects_ahead`: whether a loop's inputs are best projected before it;
- `differentiates_loops`: whether the backend's own gradient of a loop is quick;
- `row_groups`, `split_rows`: into how many groups of rows a loop's step is best split, and the parts of a tensor;
- `while_loop`: a loop whose state is any nest;
- `vector_jacobian_product`: a function's value and its pullback;
- `custom_gradient`: a function with its own backward pass;
- `captured`: the float tensors that a function uses besides its arguments;
- `prevent_gradient`: a function that must not be differentiated says so;
- `random_bits`, `dropout_mask`: random numbers, made fast under XLA too;
- `compiled`: a function compiled by XLA;
- `fresh_seed`: another seed at each call;
- `bitcast`: the same bits as another dtype;
- `known_value`: what a tensor holds, where that is known while a graph is made;
- `Tensor`: the type of a backend's tensor, for annotations.
"""

from typing import Any

import keras

if keras.backend.backend() == "tensorflow":
    from kseq.backend.tensorflow import (
        bitcast,
        captured,
        compiled,
        custom_gradient,
        differentiates_loops,
        dropout_mask,
        fresh_seed,
        known_value,
        prevent_gradient,
        projects_ahead,
        random_bits,
        row_groups,
        split_rows,
        vector_jacobian_product,
    )
    from kseq.backend.tensorflow_loops import scan, scan_in_place, stateful_scan, while_loop
elif keras.backend.backend() == "jax":
    from kseq.backend.jax import (
        bitcast,
        captured,
        compiled,
        custom_gradient,
        differentiates_loops,
        dropout_mask,
        fresh_seed,
        known_value,
        prevent_gradient,
        projects_ahead,
        random_bits,
        row_groups,
        scan,
        scan_in_place,
        split_rows,
        stateful_scan,
        vector_jacobian_product,
        while_loop,
    )
else:
    raise ImportError(
        f"kseq runs on Keras's tensorflow and jax backends, but Keras uses {keras.backend.backend()!r}. "
        "Set the environment variable KERAS_BACKEND=tensorflow (or jax) before the first import of keras."
    )

Tensor = Any  # Backends have no common class; shapes and dtypes are said in docstrings.

__all__ = [
    "Tensor",
    "bitcast",
    "captured",
    "compiled",
    "custom_gradient",
    "differentiates_loops",
    "dropout_mask",
    "fresh_seed",
    "known_value",
    "prevent_gradient",
    "projects_ahead",
    "random_bits",
    "row_groups",
    "scan",
    "scan_in_place",
    "split_rows",
    "stateful_scan",
    "vector_jacobian_product",
    "while_loop",
]
