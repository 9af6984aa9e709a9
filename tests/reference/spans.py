"""Spans of one sequence of tags, token by token, and F1 of spans."""


def spans_of(tags: list[str], *, scheme: str = "BIO", strict: bool = False) -> list[tuple[str, int, int]]:
    """Return `(type, first, last)` of each span of a sequence of names of tags."""
    letters = {"L": "E", "U": "S"} if scheme == "BILOU" else {}
    parsed = [(letters.get(tag[0], tag[0]), tag[2:] or "_") for tag in tags]
    pieces: list[list[int]] = []
    for place, (prefix, of) in enumerate(parsed):
        before, of_before = parsed[place - 1] if place else ("O", "_")
        if before in ("B", "I") and prefix in ("I", "E") and of == of_before:
            pieces[-1].append(place)
        else:
            pieces.append([place])
    spans = []
    for piece in pieces:
        spelt = "".join(parsed[place][0] for place in piece)
        complete = spelt[0] == "B" if scheme == "BIO" else spelt == "S" or (spelt[0] == "B" and spelt[-1] == "E")
        if spelt != "O" and (complete or not strict):
            spans.append((parsed[piece[0]][1], piece[0], piece[-1]))
    return spans


def span_f1(expected: list[list[str]], predicted: list[list[str]], **options: object) -> float:
    """Return the F1 of all spans of all sequences."""
    true, found = (
        {(row, *span) for row, tags in enumerate(rows) for span in spans_of(tags, **options)}  # type: ignore[arg-type]
        for rows in (expected, predicted)
    )
    return 2 * len(true & found) / max(len(true) + len(found), 1)
