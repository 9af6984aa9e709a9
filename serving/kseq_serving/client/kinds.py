"""Checks that arguments of the client have the right types."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any


def check_text(argument: str, value: Any) -> None:
    """Raise TypeError unless `value` is a str."""
    if not isinstance(value, str):
        raise _wrong(argument, value, "a str")


def check_number(argument: str, value: Any) -> None:
    """Raise TypeError unless `value` is an integer or a floating-point number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _wrong(argument, value, "a number")


def check_version(version: Any) -> None:
    """Raise TypeError unless `version` is a whole number."""
    if isinstance(version, bool) or not isinstance(version, numbers.Integral):
        raise _wrong("version", version, "a whole number, or None for the newest. A label is given as label=")


def texts(argument: str, values: Any) -> tuple[str, ...]:
    """Return a list or another iterable of str as a tuple.

    Raises:
        TypeError: If it is something else, such as a single str.
    """
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise _wrong(argument, values, f'a list of names, such as {argument}=["scores"]')
    found = tuple(values)
    for index, value in enumerate(found):
        check_text(f"{argument}[{index}]", value)
    return found


def check_inputs(inputs: Any) -> None:
    """Raise TypeError unless `inputs` is a mapping with names as keys."""
    if not isinstance(inputs, Mapping):
        raise _wrong(
            "inputs",
            inputs,
            'a dict of arrays by the names of the signature\'s inputs, such as {"text": ["one row", "another"]}. '
            "metadata(model) tells the names",
        )
    for name in inputs:
        check_text("A name in inputs", name)


def check_examples(examples: Any, context: Any) -> None:
    """Raise TypeError unless `examples` is a list of mappings, and `context` is a mapping or None."""
    if isinstance(examples, str | bytes) or not isinstance(examples, Sequence):
        raise _wrong("examples", examples, 'a list of dicts of features by name, such as [{"age": 3, "name": "Ada"}]')
    for index, example in enumerate(examples):
        _check_example(f"examples[{index}]", example)
    if context is not None:
        _check_example("context", context)


def _check_example(argument: str, example: Any) -> None:
    if not isinstance(example, Mapping):
        raise _wrong(argument, example, 'a dict of features by name, such as {"age": 3, "name": "Ada"}')
    for name in example:
        check_text(f"A name in {argument}", name)


def _wrong(argument: str, value: Any, expected: str) -> TypeError:
    return TypeError(f"{argument} must be {expected}; got {value!r:.80} of type {type(value).__name__}.")
