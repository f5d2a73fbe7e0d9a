"""The lines of the next picks.csv, and the file of the round before."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from balal.atomic_files import atomic_write
from balal.cli import matching, table
from balal.cli.answers import Answer


def carried_over(
    lines: Sequence[Answer],
    files: Mapping[int, str],
    picked: Sequence[Mapping[str, Any]],
    contents: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The lines of the new picks.csv: those with an answer as they were but without a rank, those
    with a note alone too unless they are picked again, then what is picked, with its notes.

    Args:
      lines: of the answers.
      files: the name now of the file of each, by the number of the line.
      picked: the new picks.
      contents: the sha256 of the files, by which a photograph is found that was moved.
    """
    again = {line["file"] for line in picked}

    def digest(file: str) -> dict[str, str]:
        return dict(sha256=matching.digest(contents[file])) if file in contents else {}

    notes: dict[str, dict[str, str]] = {}
    kept = []
    for line in lines:
        if not line.label.strip() and not line.own:
            continue
        file = files[line.number]
        if line.label.strip() or file not in again:
            said = {
                name: cell
                for name, cell in line.cells.items()
                if name != "rank" or not cell.isdecimal()
            }
            first = dict(rank="", file=table.escape(file), label=line.label)
            first |= dict(reason="", source_class="", **digest(file))
            kept.append({**first, **said, **digest(file)})
        else:
            notes.setdefault(file, {}).update(line.own)
    return [
        *kept,
        *(
            {
                **line,
                "file": table.escape(line["file"]),
                **digest(line["file"]),
                **notes.get(line["file"], {}),
            }
            for line in picked
        ),
    ]


def keep_previous(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Copies picks.csv to picks.before.csv, unless its lines stay the same."""
    if path.exists() and path.read_bytes() != table.text(lines).encode():
        with atomic_write(path.with_name("picks.before.csv")) as file:
            file.write(path.read_bytes())
