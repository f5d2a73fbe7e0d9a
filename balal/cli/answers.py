"""Answers in a picks.csv, as a person or a spreadsheet saved it."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from balal.cli import table
from balal.wording import first_few, look_alike, quoted, told_apart

# What `balal pick` writes; a person's own columns have other names.
COLUMNS = ("rank", "file", "label", "reason", "source_class", "sha256")
# Characters of a name that is not there, in a message.
_SHOWN = 100
# As many digits tell photographs apart. The dots keep a spreadsheet from reading a number.
_DIGITS = 16
_DIGEST = re.compile(rf"([0-9a-f]{{{_DIGITS},64}})(?:\.\.\.)?", re.IGNORECASE)


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


@dataclass(frozen=True)
class Match:
    """Which files the lines of a picks.csv are about.

    Attributes:
      labels: by file name, in the order of the lines.
      files: the file of each line with a label or a note, by the number of the line; for one that
        is not there, the name as it is written in the line.
      moved: the name now of each file that was found by its content, by the name in the line.
      changed: files that have another content than when they were picked.
      gone: files that have a label and are no longer there.
    """

    labels: Mapping[str, str]
    files: Mapping[int, str]
    moved: Mapping[str, str]
    changed: Sequence[str]
    gone: Sequence[str]


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
                f"not {_DIGITS} to 64 hexadecimal digits: empty the cell, or rename the column if "
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


def match(
    path: Path,
    answers: Sequence[Answer],
    ids: Sequence[str],
    name: str,
    *,
    contents: Mapping[str, str] | None = None,
    damaged: Collection[str] = (),
) -> Match:
    """The files that the lines are about, and their labels.

    A file is found by its name, in whatever Unicode form that is written, as long as it is the only
    one. Where its content is not that of the line, it is looked for by content: under another name
    it has been moved, and of several copies one stands for all.

    Args:
      path: of the answers, for messages.
      answers: the lines.
      ids: the file names that there are.
      name: of the folder or file that has them.
      contents: the sha256 of the files, in hexadecimal digits; None: not known.
      damaged: the names of files that were left out.

    Raises: ValueError for labels of files that are not there and of which nothing says that they
      once were, where no labelled file is there, and for files with more than one label.
    """
    about = [answer for answer in answers if answer.label.strip() or answer.own]
    found, moved, changed = _find(about, ids, contents or {})
    refuse_unknown(path, answers, [*ids, *damaged], name)
    files, labels, lines, gone = {}, {}, {}, []
    for answer in about:
        file, written = found[answer.number], table.unescape(answer.file)
        files[answer.number] = written if file is None else file
        if not answer.label.strip():
            continue
        if file is None:
            gone.append(written)
            continue
        line = f"line {answer.number}" + ("" if file == written else f" ({written})")
        if labels.setdefault(file, answer.label) != answer.label:
            raise ValueError(
                f"{path} gives different labels for {quoted(file)}: {quoted(labels[file])} in "
                f"{lines[file]} and {quoted(answer.label)} in {line}; keep the right one"
            )
        lines.setdefault(file, line)
    if gone and not labels:
        raise ValueError(
            f"no file that has a label in {path} is in {name}, under any name ({first_few(gone)}): "
            f"is it the right folder?"
        )
    changed = [file for file in changed if file in labels]
    return Match(labels, files, moved, changed, gone)


def refuse_unknown(path: Path, answers: Iterable[Answer], ids: Sequence[str], name: str) -> None:
    """Raises ValueError where there are labels for files of which nothing says that they ever were
    among the ids."""
    find = finder(ids)
    unknown = [
        (table.unescape(answer.file), answer.number)
        for answer in answers
        if answer.label.strip() and not answer.sha256 and find(answer.file) is None
    ]
    if unknown:
        raise ValueError(
            f"{path} has labels for files that are not in {name}: {missing(unknown, ids)}; correct "
            f"their names, or delete these lines"
        )


def digest(sha256: str) -> str:
    """A sha256 as a cell: short, and no spreadsheet takes it for a number.

    >>> digest("0123456789e123456789")
    '0123456789e12345...'
    """
    return f"{sha256[:_DIGITS]}..."


def _find(
    answers: Sequence[Answer], ids: Sequence[str], contents: Mapping[str, str]
) -> tuple[dict[int, str | None], dict[str, str], list[str]]:
    """The file of each line, by its number; the new names of those that were moved; and those whose
    content is another."""
    find, holders = finder(ids), defaultdict(list)
    for file, content in contents.items():
        holders[content[:_DIGITS]].append(file)
    found = {answer.number: find(answer.file) for answer in answers}

    def agrees(answer: Answer, file: str | None) -> bool:
        return file is not None and contents[file].startswith(answer.sha256)

    doubtful = [
        answer
        for answer in answers
        if answer.sha256 and contents and not agrees(answer, found[answer.number])
    ]
    # The content decides, as the name may be another photograph's by now. A copy that is known by
    # its name is not taken for one that was moved.
    taken = {found[answer.number] for answer in answers if answer not in doubtful}
    moved, changed = {}, []
    for answer in doubtful:
        same = [file for file in holders[answer.sha256[:_DIGITS]] if agrees(answer, file)]
        file = next((file for file in same if file not in taken), same[0] if same else None)
        if file is not None:
            moved[table.unescape(answer.file)] = found[answer.number] = file
            taken.add(file)
        elif found[answer.number] is not None:
            changed.append(found[answer.number])
    return found, moved, changed


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


def missing(names: Sequence[tuple[str, int]], ids: Sequence[str]) -> str:
    """The first few of the names that are not there, each with its line, and with the one that may
    have been meant."""
    near = _nearest(ids)
    told = []
    for name, number in names:
        meant = near(name)
        short = name if len(name) <= _SHOWN else f"{name[: _SHOWN - 3]}..."
        told.append(f"{short} (line {number}{f'; there is {meant}' if meant else ''})")
    return first_few(told)


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


def _nearest(ids: Sequence[str]) -> Callable[[str], str | None]:
    """A function from a name to the only id that differs from it by its folders, the end of its
    name, or case."""
    known = defaultdict(list)
    for name in ids:
        known[_core(name)].append(name)

    def near(name: str) -> str | None:
        found = known.get(_core(name), [])
        return found[0] if len(found) == 1 else None

    return near


def _core(name: str) -> str:
    """The last part of a path without what follows its last dot, in small letters."""
    last = PurePosixPath(name.strip(" \t'\"").replace("\\", "/")).name
    return unicodedata.normalize("NFC", last.rpartition(".")[0] or last).casefold()


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
