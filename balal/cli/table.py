"""Tables in CSV files, as people and spreadsheets save them.

What is ambiguous is refused with the number of its line, rather than cut, moved or swallowed; what
is written reads back equal.
"""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from balal.atomic_files import atomic_write
from balal.wording import first_few, quoted

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# Unicode's categories of control characters, halves of characters, and line breaks.
_UNPRINTED = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class Line:
    """A line of a table.

    Attributes:
      number: of the line of text where it begins, from 1.
      cells: by the name of their column, without those of columns that have no name.
    """

    number: int
    cells: Mapping[str, str]


def read(path: Path, *, columns: Sequence[str]) -> list[Line]:
    """The lines of a CSV file below its line of column names.

    The separator may be a comma, a semicolon or a tab: the one under which the first line names
    the columns. A byte order mark, any line endings, an unnamed column of row numbers, empty lines
    and trailing empty cells are taken as spreadsheets write them.

    Args:
      path: of the file.
      columns: that it must have, among others of the person's own.

    Raises: ValueError, with the number of the line, for a column that comes twice, a line with
      more cells than there are columns, a quotation mark that is not closed or closes lines
      later, and stray carriage returns; for a file that cannot be read or has no such columns.
    """
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", read_text(path))
    named = next((at for at, line in enumerate(lines) if line.strip("\ufeff \r\n")), 0)
    if lines and lines[named].startswith("sep="):
        named += 1
    names, separator = _header(path, lines, named, columns)
    found, padding = [], set()
    for number, cells in _records(path, lines, separator, len(names)):
        if number <= named + 1 or not any(cells):
            continue
        padding.add(len(cells) - len(names))
        # Padding comes in every line or in none; else an empty cell at the end hides a shift.
        if any(cells[len(names) :]) or (len(cells) > len(names) and len(padding) > 1):
            raise ValueError(
                f"line {number} of {path} has {len(cells)} cells, and there are {len(names)} "
                f"columns: put a cell with {_SEPARATORS[separator]} in it in quotation marks, as "
                f'"dog{separator} black"'
            )
        cells = [*cells, *[""] * (len(names) - len(cells))]
        found.append(
            Line(number, {name: cell for name, cell in zip(names, cells, strict=False) if name})
        )
    if not found:
        raise ValueError(f"{path} has no line below its column names: add one for each image")
    return found


def write(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    """Writes a CSV file, whole or not at all, from what `text` makes of the lines."""
    with atomic_write(path) as file:
        file.write(text(lines).encode())


def text(lines: Sequence[Mapping[str, object]]) -> str:
    """A CSV file with the columns of all lines in the order in which they are met; a cell that is
    missing or None is empty.

    >>> print(text([dict(file="a.jpg", label=None), dict(file="b.jpg", label="dog, black")]))
    file,label
    a.jpg,
    b.jpg,"dog, black"
    <BLANKLINE>
    """
    names = list(dict.fromkeys(name for line in lines for name in line))
    rows = [names, *([line.get(name) for name in names] for line in lines)]
    return "".join(
        ",".join(_cell("" if value is None else str(value)) for value in row) + "\n" for row in rows
    )


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 where it says so, without a byte order mark."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): name a file that can be"
        ) from error
    try:
        return content.decode(_MARKS.get(content[:2], "utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path} is not UTF-8 text, in line {line}: save it as text in UTF-8"
        ) from error


def escape(name: str) -> str:
    r"""A file name as a cell that every program shows as text: one that a spreadsheet would take
    for a formula, or with characters that are not printed, begins with an apostrophe, and the
    latter are written as in Python.

    >>> escape("cat.jpg"), escape("=cat.jpg"), escape("a\rb.jpg")
    ('cat.jpg', "'=cat.jpg", "'a\\rb.jpg")
    """
    if (
        not unprinted(name)
        and not name.startswith(("=", "+", "-", "@", "'"))
        and name == name.strip()
    ):
        return name
    return "'" + "".join(
        each.encode("unicode_escape").decode() if each == "\\" or unprinted(each) else each
        for each in name
    )


def unescape(cell: str) -> str:
    r"""The file name that was written as this cell.

    >>> unescape("'a\\rb.jpg"), unescape("cat.jpg")
    ('a\rb.jpg', 'cat.jpg')
    """
    if not cell.startswith("'"):
        return cell
    return re.sub(
        r"\\(?:\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4})",
        lambda match: match[0].encode().decode("unicode_escape"),
        cell[1:],
    )


def unprinted(text: str) -> bool:
    """Whether it holds control characters or line breaks."""
    return any(unicodedata.category(each) in _UNPRINTED for each in text)


def _cell(text: str) -> str:
    if re.search('[,;\t"\r\n]', text) or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text


def _header(
    path: Path, lines: Sequence[str], named: int, columns: Sequence[str]
) -> tuple[list[str], str]:
    """The names of the columns and the separator between them."""
    read = {
        mark: [name.strip() for name in _split(lines[named : named + 1], mark)]
        for mark in _SEPARATORS
    }
    fitting = [mark for mark, names in read.items() if set(columns) <= set(names)]
    if not fitting:
        names = max(read.values(), key=len)
        raise ValueError(
            f"{path} must have the columns {' and '.join(columns)} in its first line, and has "
            f"{first_few([quoted(name) for name in names]) or 'none'}"
        )
    names = read[fitting[0]]
    twice = [name for name, times in Counter(names).items() if name and times > 1]
    if twice:
        raise ValueError(
            f"line {named + 1} of {path} names the column {quoted(twice[0])} more than once: "
            f"rename or delete one of them"
        )
    return names, fitting[0]


def _split(line: Sequence[str], separator: str) -> list[str]:
    try:
        return next(csv.reader(line, delimiter=separator, strict=True), [])
    except csv.Error:
        return []


def _records(
    path: Path, lines: Sequence[str], separator: str, num_columns: int
) -> Iterator[tuple[int, list[str]]]:
    """Each record with the number of its first line."""
    reader = csv.reader(iter(lines), delimiter=separator, strict=True)
    # A carriage return alone ends the lines of old files, but not of one with other line endings.
    mixed = any(line.endswith("\n") for line in lines)
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise ValueError(
                    f"line {first} of {path} opens a quotation mark that is never closed: close "
                    f"it, or delete it"
                ) from None
            where = f"line {first}" if reader.line_num <= first else f"the text from line {first}"
            raise ValueError(
                f"{where} of {path} cannot be read ({error}): put the whole cell in quotation "
                f'marks, and write "" for one inside it'
            ) from None
        if _swallows(cells, separator, num_columns):
            raise ValueError(
                f"line {first} of {path} opens a quotation mark that is closed in line "
                f"{reader.line_num} only: is one missing, or one too many?"
            )
        if mixed and lines[reader.line_num - 1].endswith("\r"):
            raise ValueError(
                f"line {reader.line_num} of {path} has a carriage return inside a cell: delete "
                f"the character, or in a note put the cell in quotation marks"
            )
        yield first, cells


def _swallows(cells: Sequence[str], separator: str, num_columns: int) -> bool:
    """Whether a cell of several lines holds what looks like further lines of the table."""
    for after, cell in enumerate(reversed(cells)):
        _, *further = re.split(r"\r\n|\r|\n", cell)
        lengths = [line.count(separator) + 1 for line in further]
        if lengths and lengths[-1] > 1:
            lengths[-1] += after  # The last line goes on behind the closing quotation mark.
        if any(length >= num_columns for length in lengths):
            return True
    return False
