"""Finished cells of an experiment: small JSON files from which a killed run resumes.

A write happens completely or not at all, and a folder holds cells of only one configuration.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from balal.atomic_files import settle
from balal.cli.output import write_text

_CONFIGURATION = "configuration"


def folder(path: Path, configuration: dict[str, Any], *, fresh: bool = False) -> Path:
    """The folder at `path`, created if need be, for the cells of one configuration.

    Args:
      configuration: everything that the cells depend on, JSON values.
      fresh: delete what is there.

    Raises: ValueError where it holds cells of another configuration, which are neither mixed with
    these nor lost.
    """
    if fresh:
        shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True, exist_ok=True)
    settle(path)
    wanted = json.loads(json.dumps(configuration))
    found = read(path, _CONFIGURATION)
    if found is None:
        write(path, _CONFIGURATION, wanted)
    elif found != wanted:
        names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
        changes = "; ".join(
            f"{name} was {_short(found.get(name))} and is {_short(wanted.get(name))}"
            for name in names
        )
        raise ValueError(
            f"{path} holds cells of another configuration ({changes}): give another --out, or "
            f"--fresh to delete them"
        )
    return path


def read(path: Path, name: str) -> Any | None:
    """The cell `name`, or None where it is not finished."""
    try:
        return json.loads((path / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:  # Not JSON, or not even text.
        raise ValueError(
            f"the cell {path / name}.json is damaged: delete it and run again"
        ) from error


def write(path: Path, name: str, value: Any) -> None:
    """Stores the cell `name`, a JSON value, in one step: a reader, or a kill, finds the old file or
    the new one."""
    write_text(path / f"{name}.json", json.dumps(value))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
