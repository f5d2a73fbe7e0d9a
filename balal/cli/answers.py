"""Answers in a picks.csv, as a person or a spreadsheet saved it."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from balal.cli import table
from balal.wording import first_few, look_alike, quoted, told_apart

# What `balal pick` writes; a person's own columns have other names.
COLUMNS = ("rank", "file", "label", "reason", "source_class", "sha256")
DIGITS = 16
"""As many of a sha256 tell photographs apart."""
_DIGEST = re.compile(rf"([0-9a-f]{{{DIGITS},64}})(?:\.\.\.)?", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """A line of a picks.csv.

    Attributes:
      number: of the line, from 1.
      file: the file name as it is written there.
      label: nothing but white space: not answered yet.
      cells: the other cells by the name of their column.
      sha256: the first hexadecimal digits, at least 16, of that of the file when it was picked;
        empty: not known.
    """

    number: int
    file: str
    label: str
    cells: Mapping[str, str]
    sha256: str = ""

    @property
    def own(self) -> dict[str, str]:
        """What the person wrote in columns of their own."""
        return {name: cell for name, cell in self.cells.items() if name not in COLUMNS and cell}


def read(
    path: Path,
    *,
    file_column: str = "file",
    label_column: str = "label",
    distinct_labels: bool = False,
) -> list[Answer]:
    """The lines of a picks.csv, answered and not.

    Args:
      path: of the file.
      file_column, label_column: the names of the two columns there.
      distinct_labels: labels that look alike are different classes nevertheless.

    Raises: ValueError as `table.read` does; for labels that look alike, or are more than one line.
    """
    columns = (file_column, label_column)
    lines = table.read(path, columns=columns)
    meant = {file_column: "file", label_column: "label"}
    taken = [name for name, other in meant.items() if name != other and other in lines[0].cells]
    if taken:
        raise ValueError(
            f"{path} has a column {meant[taken[0]]} beside {quoted(taken[0])}, which takes its "
            f"place: rename or delete one of them"
        )
    for line in lines:
        if table.unprinted(line.cells[label_column].strip()):
            raise ValueError(
                f"line {line.number} of {path} has a label that is more than one line of text, "
                f"{quoted(line.cells[label_column])}: a label is a word or a few"
            )
        digest = line.cells.get("sha256", "").strip()
        if digest and not _DIGEST.fullmatch(digest):
            raise ValueError(
                f"line {line.number} of {path} has {quoted(digest)} in its column sha256, which is "
                f"not {DIGITS} to 64 hexadecimal digits: empty the cell, or rename the column if "
                f"it is one of your own"
            )
    if not distinct_labels:
        _refuse_alike(
            path, Counter(filter(str.strip, (line.cells[label_column] for line in lines)))
        )
    return [
        Answer(
            line.number,
            line.cells[file_column],
            line.cells[label_column] if distinct_labels else line.cells[label_column].strip(),
            {name: cell for name, cell in line.cells.items() if name not in columns},
            line.cells.get("sha256", "").strip().removesuffix("...").lower(),
        )
        for line in lines
    ]


def refuse_to_lose(path: Path, answers: Iterable[Answer]) -> None:
    """Raises ValueError where a picks.csv has labels, or notes in columns of somebody's own, that
    are not among the answers: no one's work is overwritten."""
    if not path.exists():
        return

    def content(lines: Iterable[Answer]) -> set:
        return {
            (table.unescape(line.file), line.label.strip(), frozenset(line.own.items()))
            for line in lines
            if line.label.strip() or line.own
        }

    lost = content(read(path, distinct_labels=True)) - content(answers)
    if lost:
        files = first_few(sorted(file for file, *_ in lost))
        # Notes alone are no answers.
        labelled = any(label for _, label, _ in lost)
        raise ValueError(
            f"{path} has labels or notes that would be lost, for {files}: "
            f"{'pass it as --answers, or ' if labelled else ''}give another --out"
        )


def _refuse_alike(path: Path, labels: Counter[str]) -> None:
    """Labels of which people would say that they are the same."""
    alike = look_alike(labels)
    if alike:
        listed = "; ".join(
            " and ".join(
                f"{told} ({labels[label]})"
                for told, label in zip(told_apart(group), group, strict=True)
            )
            for group in alike[:5]
        )
        raise ValueError(
            f"{path} has labels that look alike, with how often each comes: {listed}. Is each of "
            f"these one class? Then write it in one way; if they are different, pass "
            f"--distinct_labels"
        )
