"""Tables for people, files for programs, and where a result came from."""

import csv
import hashlib
import io
import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import balal
from experiments.common import cells


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in plain text too: the first to the left, the others
    to the right.

    >>> print(markdown(["strategy", "500"], [["random", "34.9"]]))
    | strategy |  500 |
    |:---------|-----:|
    | random   | 34.9 |
    """
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *others = (
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    rule = (
        "|:"
        + "-" * (widths[0] + 1)
        + "|"
        + "".join("-" * (width + 1) + ":|" for width in widths[1:])
    )
    return "\n".join([line(header), rule, *map(line, rows)])


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One line a row under the keys of the first; None is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    cells.write_text(path, text.getvalue())


def write_json(path: Path, value: dict[str, Any]) -> None:
    """A JSON object, one line a key; a list of objects has one line for each of them."""

    def listed(items: Any) -> str:
        if isinstance(items, list) and items and isinstance(items[0], dict):
            return "[\n" + ",\n".join(f"    {json.dumps(item)}" for item in items) + "\n  ]"
        return json.dumps(items)

    entries = [f"  {json.dumps(name)}: {listed(items)}" for name, items in value.items()]
    cells.write_text(path, "{\n" + ",\n".join(entries) + "\n}\n")


def versions() -> dict[str, str]:
    """The versions of what the numbers depend on."""
    packages = {name: version(name) for name in ("jax", "jaxlib", "numpy", "scikit-learn")}
    return {"balal": balal.__version__, "python": platform.python_version(), **packages}


def device() -> str:
    """The kind of device that selection runs on, as JAX names it, and how many there are."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind}"


def code() -> str:
    """A fingerprint of the library's source, so that cells of other code are not taken for cells of
    this one."""
    digest = hashlib.sha256()
    root = Path(balal.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str | None:
    """The git commit of this checkout, with `-dirty` where files differ from it; None outside a
    checkout."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None
