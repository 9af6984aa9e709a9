"""The id of a class or tag, by its name."""

import difflib
from typing import Any


def class_number(name: Any, numbers: dict[str, int], place: str) -> int:
    """Return the id of a class or tag.

    Args:
        name: Its name.
        numbers: The ids of all, by name.
        place: The place of the name in the caller's argument, for the error.

    Raises:
        ValueError: If there is none of this name.
    """
    if name in numbers:
        return numbers[name]
    close = difflib.get_close_matches(str(name), list(map(str, numbers)), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{place} is {name!r}, which is not among class_names, {list(numbers)}.{hint}")
