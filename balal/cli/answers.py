"""Answers in a picks.csv, as a person or a spreadsheet leaves it."""

import csv
import io
from pathlib import Path

from balal.host import first_few

# What `balal pick` writes; a person's own columns have other names.
COLUMNS = ("rank", "file", "label", "reason", "source_class")


def read(path: Path) -> dict[str, str]:
    """Labels by file name: of every line of a picks.csv whose label is filled in."""
    pairs = [
        (line["file"], line["label"].strip()) for line in read_lines(path) if line["label"].strip()
    ]
    answers = dict(pairs)
    contrary = sorted({file for file, label in pairs if label != answers[file]})
    if contrary:
        raise ValueError(
            f"{path} has lines with different labels for {first_few(contrary)}: leave the right one"
        )
    return answers


def read_lines(path: Path) -> list[dict[str, str]]:
    """The lines of a picks.csv."""
    try:
        lines = list(
            csv.DictReader(io.StringIO(read_text(path), newline=""), restval="", strict=True)
        )
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV ({error}): save it as CSV, UTF-8") from error
    if not lines or not {"file", "label"} <= set(lines[0]):
        raise ValueError(
            f"{path} needs a line for each image, with the columns file and label and commas "
            f"between them"
        )
    return lines


def read_text(path: Path) -> str:
    """A text in UTF-8, with or without the mark that spreadsheets put before it."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): give the name of a file that can"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}): save it in UTF-8") from error


def refuse_to_lose(path: Path, answers: dict[str, str]) -> None:
    """Raises ValueError where a picks.csv has labels that are not among the answers, or columns of
    its reader's own: no one's work is written over."""
    if not path.exists():
        return
    lost = sorted(read(path).items() - answers.items())
    if lost:
        files = first_few([file for file, _ in lost])
        raise ValueError(
            f"{path} has labels that would be lost, of {files}: pass it as --answers, or give "
            f"another --out"
        )
    more = sorted(
        {
            str(name)
            for line in read_lines(path)
            for name, cell in line.items()
            if name not in COLUMNS and cell
        }
    )
    if more:
        raise ValueError(
            f"{path} has columns that would be lost ({first_few(more)}): give another --out"
        )
