"""The card of a model: a title, a description and example requests, which the playground of `kseq-serve` shows."""

import base64
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

CARD_FILE = pathlib.Path("assets.extra") / "kseq_playground.json"


def playground_card(
    title: str | None, description: str | None, examples: Sequence[Any] | Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
    """Return the content of the card, empty if nothing is given.

    Args:
        title: Title of the page.
        description: What the model does, in a sentence or two.
        examples: Example requests, each of one row: a mapping from names of inputs to values, or the value of the
            only input that has no default, such as a text. Arrays become lists, and bytes `{"b64": ...}`. A mapping
            gives each example the name that its button shows.
        names: Names of the inputs that a request must contain.

    Raises:
        ValueError: If an example has other inputs.
    """
    named = isinstance(examples, Mapping)
    requests = []
    for key, example in examples.items() if named else enumerate(examples):
        inputs = example if isinstance(example, Mapping) else {names[0]: example} if len(names) == 1 else {}
        if missing := sorted(set(names) - set(inputs)):
            raise ValueError(f"examples[{key!r}] = {example!r} lacks the inputs {missing} of a request.")
        request = {"inputs": keras.tree.map_structure(_as_json, dict(inputs))}
        requests.append({"name": key, **request} if named else request)
    content = {"title": title, "description": description, "examples": requests}
    return {name: value for name, value in content.items() if value}


def write_card(folder: pathlib.Path, card: Mapping[str, Any]) -> None:
    """Write the card of the version in `folder`, unless it is empty."""
    if card:
        (folder / CARD_FILE).parent.mkdir(exist_ok=True)
        (folder / CARD_FILE).write_text(json.dumps(card, ensure_ascii=False, indent=1), encoding="utf-8")


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return value if isinstance(value, str) else np.asarray(value).tolist()
