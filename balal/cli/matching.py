"""Which files the lines of a picks.csv are about: found by their names or, where they were moved,
by their content."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from balal.cli import table
from balal.cli.answers import DIGITS, Answer
from balal.wording import first_few, quoted

# Characters of a name that is not there, in a message.
_SHOWN = 100


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


def _find(
    answers: Sequence[Answer], ids: Sequence[str], contents: Mapping[str, str]
) -> tuple[dict[int, str | None], dict[str, str], list[str]]:
    """The file of each line, by its number; the new names of those that were moved; and those whose
    content is another."""
    find, holders = finder(ids), defaultdict(list)
    for file, content in contents.items():
        holders[content[:DIGITS]].append(file)
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
        same = [file for file in holders[answer.sha256[:DIGITS]] if agrees(answer, file)]
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


def _nearest(ids: Sequence[str]) -> Callable[[str], str | None]:
    """A function from a name to the only id that differs from it by the end of its name, case or
    separators, or else by its folders too."""
    known = defaultdict(list)
    for name in ids:
        for form in {_plain(name), _plain(name).name}:
            known[form].append(name)

    def near(name: str) -> str | None:
        plain = _plain(name)
        found = known.get(plain) or known.get(plain.name, [])
        return found[0] if len(found) == 1 else None

    return near


def _plain(name: str) -> PurePosixPath:
    """A path without what follows its last dot, in small letters, with / between its parts."""
    text = name.strip(" \t'\"").replace("\\", "/")
    path = PurePosixPath(unicodedata.normalize("NFC", text).casefold())
    return path.parent / path.stem


def digest(sha256: str) -> str:
    """A sha256 as a cell: short, and with dots, so that no spreadsheet takes it for a number.

    >>> digest("0123456789e123456789")
    '0123456789e12345...'
    """
    return f"{sha256[:DIGITS]}..."
