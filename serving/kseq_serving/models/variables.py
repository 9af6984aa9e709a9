"""Check that a loaded graph has the values of the variables that its signatures read.

`tf.saved_model.save` of a Keras 3 model writes a graph whose signatures read other variables than the ones that loading
restores. TensorFlow loads it without complaint, and then every run fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import tensorflow as tf

from kseq_serving.protocol.protos import SignatureDef

_CHECKS = {  # by the type of op that makes a variable
    "VarHandleOp": lambda variable: tf.raw_ops.VarIsInitializedOp(resource=variable),
    "Variable": lambda variable: tf.raw_ops.IsVariableInitialized(ref=variable),
    "VariableV2": lambda variable: tf.raw_ops.IsVariableInitialized(ref=variable),
}


def without_value(session: tf.compat.v1.Session, signatures: Mapping[str, SignatureDef]) -> dict[str, list[str]]:
    """Return the variables that have no value, by the signature that reads them; empty if all have one.

    Args:
        session: Session after loading, whose graph can still be extended.
        signatures: Signatures by name. Those whose name starts with two underscores belong to the loader, and are
            left out.
    """
    read = {
        name: list(_variables(session.graph, signature))
        for name, signature in signatures.items()
        if not name.startswith("__")
    }
    with session.graph.as_default():
        checks = {
            variable.name: _CHECKS[variable.type](variable.outputs[0])
            for variables in read.values()
            for variable in variables
        }
    has_value = session.run(checks) if checks else {}
    missing = {
        name: sorted(variable.name for variable in variables if not has_value[variable.name])
        for name, variables in read.items()
    }
    return {name: variables for name, variables in missing.items() if variables}


def problem(missing: Mapping[str, list[str]], *, no_file: bool) -> str:
    """Return why signatures read variables without a value, and the way out; empty if there are none.

    Args:
        missing: Result of `without_value`.
        no_file: Whether the version's folder lacks the file of the variables.
    """
    if no_file:
        return "The file variables/variables.index is missing: copy the whole version folder."
    if not missing:
        return ""
    names = sorted({name for variables in missing.values() for name in variables})
    return (
        f"The signature {', '.join(sorted(missing))} reads variables that loading does not restore ({names[0]}, "
        f"{len(names)} in all). tf.saved_model.save of a Keras 3 model writes such files: write the model with "
        "kseq.export_saved_model(model, path), or with Keras's model.export(path)."
    )


def _variables(graph: tf.Graph, signature: SignatureDef) -> Iterator[tf.Operation]:
    """Yield the variables that the outputs of a signature depend on."""
    waiting = [_operation(graph, info.name) for info in signature.outputs.values()]
    seen = set()
    while waiting:
        operation = waiting.pop()
        if operation is None or operation in seen:
            continue
        seen.add(operation)
        if operation.type in _CHECKS:
            yield operation
        waiting += [tensor.op for tensor in operation.inputs]
        waiting += operation.control_inputs


def _operation(graph: tf.Graph, tensor: str) -> tf.Operation | None:
    """Return the operation that makes a tensor; None for one that is not in the graph, which fails when it is run."""
    try:
        return graph.get_operation_by_name(tensor.partition(":")[0])
    except (KeyError, ValueError):
        return None
