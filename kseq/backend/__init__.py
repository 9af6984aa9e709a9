"""Operations that differ between Keras backends. No other module knows which backend runs.

All other code is written with `keras.ops` and these functions, which behave the same on TensorFlow and on JAX:

- `scan`: a loop over the leading axis that carries a state and stacks its outputs;
- `scan_in_place`: the same, overwriting tensors that are no longer needed;
- `stateful_scan`: the same for steps that assign variables, differentiated by the backend;
- `projects_ahead`: whether a loop is faster if its inputs are projected before it;
- `differentiates_loops`: whether the backend's own gradient of a loop is fast;
- `row_groups`, `split_rows`: the best number of groups of rows in a loop, and a tensor's part for each group;
- `has_accelerator`: whether there is a GPU or TPU;
- `under_xla`: whether XLA compiles the whole graph around;
- `trains_statelessly`: whether Keras passes the optimizer's variables through a compiled training step as values;
- `while_loop`: a loop whose state is any nest of tensors;
- `write_position`: a buffer with one position written, in place where a loop allows it;
- `vector_jacobian_product`: a function's value and its pullback;
- `custom_gradient`: a function with a backward pass of its own;
- `captured`: the float tensors that a function uses besides its arguments;
- `require_rows`, `require_shape`: a tensor that must have a number of rows, or a shape, which may be known only when a
  graph runs;
- `size_of`: the size of an axis of a tensor whose rank may be unknown before a graph runs;
- `unknown_rows`: a tensor whose number of rows is unknown again, after such a check;
- `prevent_gradient`: tensors whose gradient raises an error;
- `without_gradient`: a function whose results have no gradient, even with loops that the backend cannot differentiate;
- `random_bits`, `dropout_mask`: random numbers that are fast under XLA too;
- `warn_if`: warnings while a graph runs;
- `without_autograph`: a function that TensorFlow shall not convert;
- `compiled`: a function compiled by XLA;
- `compiled_part`: a function compiled by XLA, for graphs that are not, and for calls outside graphs;
- `can_compile_part`: whether this is possible;
- `compilations`: for how many shapes such parts have been compiled;
- `recording`: whether a derivative may be asked for, by reverse or forward differentiation;
- `as_graph`, `runs_eagerly`: a function as a graph without XLA, and whether graphs save time here;
- `is_fixed_tensor`: whether an object is a tensor whose value cannot change, or a variable;
- `first_operation`: the operation of a function that first gives NaN or infinity;
- `fresh_seed`: a different seed at each call;
- `random_key_words`: the numbers of a random key that only this backend has;
- `bitcast`: the bits of a tensor as another dtype;
- `num_replicas`, `sum_over_replicas`, `of_first_replica`, `of_all_replicas`, `parts_of_replicas`,
  `add_gradients_first`, `results_of_step`, `strategy_scope`: the replicas of a strategy, each of which computes a part
  of a batch; there is one where the backend divides arrays itself;
- `process_of`, `batches_of_process`, `check_rows`: the processes that train together, and their parts of batches;
- `log_gamma`, `incomplete_beta`: special functions;
- `known_value`: the value of a tensor, if it is known while a graph is built;
- `Tensor`: the type of a backend's tensor, for annotations.
"""

from typing import Any

import keras

if keras.backend.backend() == "tensorflow":
    from kseq.backend.tensorflow import (
        as_graph,
        bitcast,
        captured,
        compiled,
        custom_gradient,
        differentiates_loops,
        has_accelerator,
        is_fixed_tensor,
        known_value,
        prevent_gradient,
        projects_ahead,
        require_rows,
        require_shape,
        row_groups,
        runs_eagerly,
        size_of,
        split_rows,
        trains_statelessly,
        under_xla,
        unknown_rows,
        vector_jacobian_product,
        warn_if,
        without_autograph,
        without_gradient,
    )
    from kseq.backend.tensorflow_compilations import compilations
    from kseq.backend.tensorflow_debug import first_operation
    from kseq.backend.tensorflow_loops import scan, scan_in_place, stateful_scan, while_loop, write_position
    from kseq.backend.tensorflow_parts import can_compile_part, compiled_part, recording
    from kseq.backend.tensorflow_random import dropout_mask, fresh_seed, random_bits, random_key_words
    from kseq.backend.tensorflow_replicas import (
        add_gradients_first,
        batches_of_process,
        check_rows,
        num_replicas,
        of_all_replicas,
        of_first_replica,
        parts_of_replicas,
        process_of,
        results_of_step,
        strategy_scope,
        sum_over_replicas,
    )
    from kseq.backend.tensorflow_special import incomplete_beta, log_gamma
elif keras.backend.backend() == "jax":
    from kseq.backend.jax import (
        as_graph,
        bitcast,
        can_compile_part,
        captured,
        compilations,
        compiled,
        compiled_part,
        custom_gradient,
        differentiates_loops,
        dropout_mask,
        fresh_seed,
        has_accelerator,
        is_fixed_tensor,
        known_value,
        prevent_gradient,
        projects_ahead,
        random_bits,
        random_key_words,
        recording,
        require_rows,
        require_shape,
        row_groups,
        runs_eagerly,
        scan,
        scan_in_place,
        size_of,
        split_rows,
        stateful_scan,
        trains_statelessly,
        under_xla,
        unknown_rows,
        vector_jacobian_product,
        warn_if,
        while_loop,
        without_autograph,
        without_gradient,
        write_position,
    )
    from kseq.backend.jax_debug import first_operation
    from kseq.backend.jax_replicas import (
        add_gradients_first,
        batches_of_process,
        check_rows,
        num_replicas,
        of_all_replicas,
        of_first_replica,
        parts_of_replicas,
        process_of,
        results_of_step,
        strategy_scope,
        sum_over_replicas,
    )
    from kseq.backend.jax_special import incomplete_beta, log_gamma
else:
    raise ImportError(
        f"kseq runs on Keras's tensorflow and jax backends, but Keras uses {keras.backend.backend()!r}. "
        "Set the environment variable KERAS_BACKEND=tensorflow (or jax) before the first import of keras."
    )

Tensor = Any  # Backends have no common class; docstrings state shapes and dtypes.

__all__ = [
    "Tensor",
    "add_gradients_first",
    "as_graph",
    "batches_of_process",
    "bitcast",
    "can_compile_part",
    "captured",
    "check_rows",
    "compilations",
    "compiled",
    "compiled_part",
    "custom_gradient",
    "differentiates_loops",
    "dropout_mask",
    "first_operation",
    "fresh_seed",
    "has_accelerator",
    "incomplete_beta",
    "is_fixed_tensor",
    "known_value",
    "log_gamma",
    "num_replicas",
    "of_all_replicas",
    "of_first_replica",
    "parts_of_replicas",
    "prevent_gradient",
    "process_of",
    "projects_ahead",
    "random_bits",
    "random_key_words",
    "recording",
    "require_rows",
    "require_shape",
    "results_of_step",
    "row_groups",
    "runs_eagerly",
    "scan",
    "scan_in_place",
    "size_of",
    "split_rows",
    "stateful_scan",
    "strategy_scope",
    "sum_over_replicas",
    "trains_statelessly",
    "under_xla",
    "unknown_rows",
    "vector_jacobian_product",
    "warn_if",
    "while_loop",
    "without_autograph",
    "without_gradient",
    "write_position",
]


def __dir__() -> list[str]:
    return __all__
