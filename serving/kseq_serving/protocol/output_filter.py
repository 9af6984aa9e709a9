"""Selection of outputs by the `output_filter` of a request."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kseq_serving.errors import InvalidArgumentError


def choose(outputs: Collection[str], output_filter: Sequence[str]) -> list[str]:
    """Return the names of the selected outputs.

    Args:
        outputs: Names of the signature's outputs.
        output_filter: Names to select; empty for all.

    Raises:
        InvalidArgumentError: If the filter names an unknown output, or one twice.
    """
    if not output_filter:
        return sorted(outputs)
    chosen: list[str] = []
    for alias in output_filter:
        if alias not in outputs:
            raise InvalidArgumentError(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{','.join(sorted(outputs))}}}."
            )
        if alias in chosen:
            raise InvalidArgumentError(f"duplicate output tensor alias: {alias}")
        chosen.append(alias)
    return chosen
