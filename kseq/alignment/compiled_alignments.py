"""Algorithms over a batch that XLA compiles by themselves."""

import functools
from collections.abc import Callable, Hashable
from typing import Any

from keras import ops, tree

from kseq.alignment.batch import Batch, pad_unknown_sizes
from kseq.alignment.topology import Topology
from kseq.compiled_parts import call_part, compiles_parts
from kseq.config import jit_compile
from kseq.eager_calls import sizes_of


def compiles_alignments(key: Hashable, topology: Topology, batch: Batch) -> bool:
    """Return whether an algorithm over the batch shall be compiled by itself, in a graph or called on its own.

    A user's topology is compiled only in graphs with `jit_compile=True`: XLA may not know its operations.
    """
    ours = is_ours(topology)

    def call() -> Any:
        return (key, sizes_of(pad_unknown_sizes(batch))) if ours else None

    return (ours or jit_compile() is True) and compiles_parts(lambda: [batch.logits], call=call)


def is_ours(topology: Topology) -> bool:
    """Return whether a topology is defined in kseq."""
    return type(topology).__module__.startswith("kseq.")


def run_part(function: Callable[..., Any], topology: Topology, batch: Batch, **options: Hashable) -> Any:
    """Return `function(topology, batch, **options)`, as a compiled part where that takes less time.

    Args:
        function: Returns a nest of tensors, rows first. If a batch has further frames and labels that are padding, its
            results have further frames and states after the others.
        topology: The topology. A user's may number its states otherwise, so it is not compiled.
        batch: The batch.
        **options: Further arguments.
    """
    if not is_ours(topology):
        return function(topology, batch, **options)
    steps, classes = ops.shape(batch.logits)[1], batch.logits.shape[2]  # which a graph must know
    key = function, topology, classes, *options.items()
    part = functools.partial(function, topology, **options)
    results, rows = call_part(part, batch, pad_unknown_sizes, key=key, steps=steps), ops.shape(batch.usable)[0]
    return tree.map_structure(lambda each: each[:rows], results)
