"""Answers in a picks.csv, as a person or a spreadsheet saved it."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from balal.cli import table
from balal.wording import first_few, quoted

# What `balal pick` writes; a person's own columns have other names.
COLUMNS = ("rank", "file", "label", "reason", "source_class")


@dataclass(frozen=True)
class Answer:
    """A line of a picks.csv.

    Attributes:
      number: of the line, from 1.
      file: the file name as it is written there.
      label: nothing but white space: not answered yet.
      cells: the other cells by the name of their column.
    """

    number: int
    file: str
    label: str
    cells: Mapping[str, str]

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
        )
        for line in lines
    ]


def by_file(path: Path, answers: Iterable[Answer], ids: Sequence[str], name: str) -> dict[str, str]:
    """The labels by file name, in the order of the lines.

    A file is found whatever Unicode form its name is written in, as long as it is the only one.

    Args:
      path: of the answers, for messages.
      answers: the lines, of which those without a label are skipped.
      ids: the file names that there are.
      name: of the folder or file that has them.

    Raises: ValueError for files that are not there, and for files with more than one label.
    """
    find, labels, lines = finder(ids), {}, {}
    unknown = []
    for answer in answers:
        if not answer.label.strip():
            continue
        file = find(answer.file)
        if file is None:
            unknown.append(f"{answer.file} (line {answer.number})")
            continue
        if labels.setdefault(file, answer.label) != answer.label:
            raise ValueError(
                f"{path} gives different labels for {quoted(file)}: {quoted(labels[file])} in line "
                f"{lines[file]} and {quoted(answer.label)} in line {answer.number}; keep the "
                f"right one"
            )
        lines.setdefault(file, answer.number)
    if unknown:
        raise ValueError(
            f"{path} has labels for files that are not in {name}: {first_few(unknown)}; correct "
            f"their names, or delete these lines"
        )
    return labels


def finder(ids: Sequence[str]) -> Callable[[str], str | None]:
    """A function from a file name as it is written in a table to that of `ids`, or None."""
    known, forms = set(ids), defaultdict(list)
    for file in ids:
        forms[unicodedata.normalize("NFC", file)].append(file)

    def find(cell: str) -> str | None:
        for file in (cell, table.unescape(cell)):
            if file in known:
                return file
            alike = forms.get(unicodedata.normalize("NFC", file), [])
            if len(alike) == 1:
                return alike[0]
        return None

    return find


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
        raise ValueError(
            f"{path} has labels or notes that would be lost, for {files}: pass it as --answers, or "
            f"give another --out"
        )


def _refuse_alike(path: Path, labels: Counter[str]) -> None:
    """Labels of which people would say that they are the same."""
    groups = defaultdict(list)
    for label in labels:
        groups[" ".join(_as_shown(label).casefold().split())].append(label)
    alike = [group for group in groups.values() if len(group) > 1]
    if alike:
        listed = "; ".join(
            " and ".join(f"{_told(label, group)} ({labels[label]})" for label in group)
            for group in alike[:5]
        )
        raise ValueError(
            f"{path} has labels that look alike, with how often each comes: {listed}. Is each of "
            f"these one class? Then write it in one way; if they are different, pass "
            f"--distinct_labels"
        )


def _as_shown(label: str) -> str:
    """What a screen shows of it: composed, and without invisible characters."""
    visible = "".join(each for each in label if unicodedata.category(each) != "Cf")
    return unicodedata.normalize("NFC", visible)


def _told(label: str, group: Sequence[str]) -> str:
    """The label as it is, or with all that is not ASCII written out where some look the same."""
    look_the_same = len(set(map(_as_shown, group))) < len(group)
    return ascii(label) if look_the_same else quoted(label)
