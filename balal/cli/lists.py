"""Which of the images: a list of files, and a table of their labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from balal.cli import answers, matching, table
from balal.wording import first_few, quoted


@dataclass(frozen=True)
class LabelTable:
    """A table with the label of each file.

    Attributes:
      path: of the CSV file.
      file_column, label_column: the names of the two columns.
      distinct_labels: labels that look alike are different classes nevertheless.
    """

    path: Path
    file_column: str
    label_column: str
    distinct_labels: bool


def read_list(path: Path) -> dict[str, int]:
    """The names in a text file, one a line, with the number of its line.

    Raises: ValueError for a file that cannot be read, a name that comes twice, or no name.
    """
    names: dict[str, int] = {}
    for number, line in enumerate(table.read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        if line in names:
            raise ValueError(
                f"{path} names {quoted(line)} twice, in line {names[line]} and in line {number}: "
                f"delete one of them"
            )
        names[line] = number
    if not names:
        raise ValueError(f"{path} names no file: write one name a line")
    return names


def find(path: Path, names: dict[str, int], ids: Sequence[str], name: str) -> list[str]:
    """The ids that a list names.

    Args:
      path: of the list, for messages.
      names: what `read_list` found there.
      ids: those that there are.
      name: of the folder or file that has them.

    Raises: ValueError for names that are not there, or for two that mean the same.
    """
    of = matching.finder(ids)
    found = {line: of(line) or of(line.strip()) for line in names}
    absent = [(line, names[line]) for line, file in found.items() if file is None]
    if absent:
        raise ValueError(
            f"{path} names files that are not in {name}: {matching.missing(absent, ids)}; write "
            f"one name a line, as it is below the folder"
        )
    lines: dict[str, str] = {}
    for line, file in found.items():
        if file is not None and lines.setdefault(file, line) != line:
            raise ValueError(
                f"{path} names {quoted(file)} twice, in line {names[lines[file]]} and in line "
                f"{names[line]}: delete one of them"
            )
    return list(lines)


def read_table(labels: LabelTable) -> list[answers.Answer]:
    """The lines of a table of labels. Raises ValueError as `answers.read`, and where no line has a
    label."""
    lines = answers.read(
        labels.path,
        file_column=labels.file_column,
        label_column=labels.label_column,
        distinct_labels=labels.distinct_labels,
    )
    if not any(line.label.strip() for line in lines):
        raise ValueError(f"{labels.path} has no label in its column {labels.label_column}")
    return lines


def labels_of(
    labels: LabelTable, lines: Sequence[answers.Answer], ids: Sequence[str], name: str
) -> dict[str, str]:
    """The labels of a table by id. Raises ValueError for files that are not there, and for files
    with more than one label."""
    match = matching.match(labels.path, lines, ids, name)
    if match.gone:
        raise ValueError(
            f"{labels.path} has labels for files that are not in {name}: {first_few(match.gone)}; "
            f"delete these lines"
        )
    return dict(match.labels)
