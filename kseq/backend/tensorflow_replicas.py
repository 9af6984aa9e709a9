"""Replicas of TensorFlow's distribution strategies: sums over them, and the sum of their gradients."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def num_replicas() -> int:
    """Return the number of replicas of the strategy that is in use, each of which computes a part of a batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Return the sum over all replicas of a value that is held constant in gradients.

    All replicas must call it the same number of times, and not in a branch or loop of a graph.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(value))


def of_first_replica(values: Any) -> Any:
    """Return a nest of values as the first replica of this process has them."""
    strategy = tf.distribute.get_strategy()
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], values)


def add_gradients_first(optimizer: Any) -> None:
    """Let an optimizer clip the sum of the replicas' gradients, as one process would.

    Keras clips the gradient of each replica, and adds them up in the update.

    Raises:
        ValueError: If the optimizer accumulates gradients, which fails in Keras 3.15 under several replicas.
    """
    while hasattr(optimizer, "inner_optimizer"):  # of a `LossScaleOptimizer`
        optimizer = optimizer.inner_optimizer
    if num_replicas() == 1 or "_all_reduce_sum_gradients" in vars(optimizer):
        return
    if steps := optimizer.gradient_accumulation_steps:
        raise ValueError(
            f"gradient_accumulation_steps={steps} does not work with {num_replicas()} replicas: Keras updates the "
            "weights in a branch of the graph, in which replicas cannot add up. Leave it out, and give larger batches."
        )
    apply = optimizer._backend_apply_gradients

    def apply_sum(gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        context = tf.distribute.get_replica_context()
        apply(context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients)), variables)

    optimizer._backend_apply_gradients = apply_sum
    optimizer._all_reduce_sum_gradients = list


def of_all_replicas(values: Any) -> Any:
    """Return a nest of values that the replicas of this process have parts of, with these put together."""

    def whole(value: Any) -> Any:
        parts = tf.distribute.get_strategy().experimental_local_results(value)
        parts = getattr(value, "values", parts) if isinstance(value, tf.distribute.DistributedValues) else parts
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)

    return tf.nest.map_structure(whole, values)


def strategy_scope(model: Any) -> Any:
    """Return the scope of the strategy that a model was created under, in which its variables are created."""
    return model.distribute_strategy.scope()


def parts_of_replicas(variable: Any) -> list[Any]:
    """Return the variables that a Keras variable consists of: of a strategy in one process one for each replica."""
    value = getattr(variable, "value", variable)
    if not isinstance(value, tf.distribute.DistributedValues):
        return [variable]
    several = value.distribute_strategy.extended._in_multi_worker_mode()  # type: ignore[attr-defined]
    return [variable] if several else list(value.values)  # type: ignore[attr-defined]


def process_of(model: Any) -> tuple[int, int]:
    """Return the index of this process among those that train a model together, and their number."""
    resolver = model.distribute_strategy.cluster_resolver
    if resolver is None or resolver.task_type not in ("chief", "worker"):
        return 0, 1
    tasks = resolver.cluster_spec().as_dict()
    chiefs, workers = len(tasks.get("chief", ())), len(tasks.get("worker", ()))
    return int(resolver.task_id) + chiefs * (resolver.task_type == "worker"), chiefs + workers


def batches_of_process(model: Any, dataset: tf.data.Dataset) -> Any:
    """Return a dataset of this process's part of each batch for a strategy of several processes.

    (The strategy would take the batches for those of all processes, and divide them once more.)

    Raises:
        ValueError: If a batch has a number of rows that the replicas of the process cannot share evenly.
    """
    strategy = model.distribute_strategy
    replicas = strategy.num_replicas_in_sync // process_of(model)[1]
    rows = {spec.shape[0] for spec in tf.nest.flatten(dataset.element_spec)}
    if replicas > 1:
        if None in rows or any(size % replicas for size in rows):
            raise ValueError(
                f"The batches of a process have {sorted(map(str, rows))} rows, which its {replicas} replicas cannot "
                f"share evenly. Give a batch_size that is a multiple of {replicas}."
            )
        dataset = dataset.rebatch(rows.pop() // replicas)
    return strategy.distribute_datasets_from_function(lambda context: dataset)


def check_rows(sizes: set[int]) -> None:
    """Do nothing: replicas may have different numbers of rows, some of them none."""


def results_of_step(model: Any, results: Any) -> Any:
    """Return the results of a step as Keras's trainer can take their mean over replicas.

    Under a strategy of several processes Keras 3.15 takes the mean over a first axis, which a scalar does not have.
    """
    if process_of(model)[1] == 1:
        return results
    return tf.nest.map_structure(lambda value: tf.reshape(value, (1,)), results)
