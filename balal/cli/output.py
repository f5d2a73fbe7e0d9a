"""Tables for people to read, and files for programs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from balal.atomic_files import atomic_write


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that lines up in plain text too, the first column flush left, the others
    flush right.

    >>> print(markdown(["strategy", "500"], [["random", "34.9"]]))
    | strategy |  500 |
    |:---------|-----:|
    | random   | 34.9 |
    """
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *others = (
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    first, *others = ("-" * (width + 1) for width in widths)
    rule = f"|:{first}|{''.join(f'{dashes}:|' for dashes in others)}"
    return "\n".join([line(header), rule, *map(line, rows)])


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: dict[str, Any]) -> None:
    """A JSON object, one line a key; a list of objects has one line for each of them."""

    def listed(items: Any) -> str:
        if isinstance(items, list) and items and isinstance(items[0], dict):
            return "[\n" + ",\n".join(f"    {json.dumps(item)}" for item in items) + "\n  ]"
        return json.dumps(items)

    entries = [f"  {json.dumps(name)}: {listed(items)}" for name, items in value.items()]
    write_text(path, "{\n" + ",\n".join(entries) + "\n}\n")
