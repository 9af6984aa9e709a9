"""Card of a version for the playground: a title, a description and example requests.

The author of a model may put it into the version's folder, as `assets.extra/kseq_playground.json`:

    {
      "title": "Dates",
      "description": "Writes a date in any of 20 languages as ISO 8601.",
      "examples": [{"name": "French", "signature_name": "serving_default", "inputs": {"text": "3 mai 1979"}}]
    }

Every member may be left out, except an example's `inputs`. These are one row of a request, in the form of an element of
`instances` in TensorFlow Serving's REST API: bytes are `{"b64": "..."}`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path("assets.extra") / "kseq_playground.json"
MAX_BYTES = 8 * 2**20

_MEMBERS = {"title": str, "description": str, "examples": list}
_EXAMPLE_MEMBERS = {"name": str, "signature_name": str, "inputs": dict}


def read(folder: str) -> dict[str, Any]:
    """Return the card of the version in `folder`: empty if it has none, and its `problem` if it cannot be used."""
    try:
        with (Path(folder) / FILE).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        card = json.loads(content)
        _check(card)
    except FileNotFoundError:
        return {}
    except OSError as error:
        return {"problem": f"{FILE} cannot be read: {error.strerror}"}
    except (ValueError, RecursionError) as error:
        return {"problem": f"{FILE} is not used: {error}"}
    return card


def _check(card: Any) -> None:
    _check_members(card, "it", _MEMBERS)
    for index, example in enumerate(card.get("examples", ())):
        _check_members(example, f"examples[{index}]", _EXAMPLE_MEMBERS)
        if "inputs" not in example:
            raise ValueError(f"examples[{index}] has no inputs")


def _check_members(value: Any, name: str, members: dict[str, type]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object")
    for key, member in value.items():
        if key not in members:
            raise ValueError(f"{name} has an unknown member {key!r}; known are {', '.join(members)}")
        if not isinstance(member, members[key]):
            raise ValueError(f"{key} of {name} is not a JSON {_JSON_NAMES[members[key]]}")


_JSON_NAMES = {str: "string", list: "array", dict: "object"}
