"""Answers in a picks.csv, as a person or a spreadsheet saved it."""

import csv
import io
from pathlib import Path

from balal.wording import first_few

# What `balal pick` writes; a person's own columns have other names.
COLUMNS = ("rank", "file", "label", "reason", "source_class")


def read(path: Path) -> dict[str, str]:
    """Labels by file name, from every line of a picks.csv whose label is filled in."""
    pairs = [
        (line["file"], line["label"].strip()) for line in read_lines(path) if line["label"].strip()
    ]
    answers = dict(pairs)
    contrary = sorted({file for file, label in pairs if label != answers[file]})
    if contrary:
        raise ValueError(
            f"{path} gives different labels for {first_few(contrary)}: keep the right one"
        )
    return answers


def read_lines(path: Path) -> list[dict[str, str]]:
    """The lines of a picks.csv."""
    try:
        lines = list(
            csv.DictReader(io.StringIO(read_text(path), newline=""), restval="", strict=True)
        )
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file ({error}): save it as CSV in UTF-8") from error
    if not lines or not {"file", "label"} <= set(lines[0]):
        raise ValueError(
            f"{path} must have a line for each image and the columns file and label, separated by "
            f"commas"
        )
    return lines


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without the byte order mark of spreadsheets."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): name a file that can be"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


def refuse_to_lose(path: Path, answers: dict[str, str]) -> None:
    """Raises ValueError where a picks.csv has labels that are not among the answers, or columns
    that somebody added: no one's work is overwritten."""
    if not path.exists():
        return
    lost = sorted(read(path).items() - answers.items())
    if lost:
        files = first_few([file for file, _ in lost])
        raise ValueError(
            f"{path} has labels that would be lost, for {files}: pass it as --answers, or give "
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
