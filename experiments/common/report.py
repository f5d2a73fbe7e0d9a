"""Tables for people to read, files for programs, and where a result came from."""

import ast
import functools
import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import balal
from balal.cli.output import markdown, write_json, write_text
from balal.cli.table import write as write_csv

__all__ = [
    "code",
    "commit",
    "device",
    "made_with",
    "markdown",
    "versions",
    "write_csv",
    "write_json",
    "write_text",
]


def versions() -> dict[str, str]:
    """The versions of what the numbers depend on."""
    packages = {name: version(name) for name in ("jax", "jaxlib", "numpy", "scikit-learn")}
    return {"balal": balal.__version__, "python": platform.python_version(), **packages}


def device() -> str:
    """The kind of device that selection runs on, as JAX names it, and how many there are."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind}"


@functools.cache
def code() -> str:
    """A fingerprint of the library's code, by which cells of other code are told apart. Docstrings
    and comments do not count."""
    digest = hashlib.sha256()
    root = Path(balal.__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        digest.update(name.encode() + b"\0" + without_docstrings(path.read_text()).encode())
    return digest.hexdigest()[:16]


def without_docstrings(source: str) -> str:
    r"""A program as its syntax tree in text, without docstrings and comments.

    >>> one, other = "def f():\n 'First.'\n return 1", "def f():\n return 1  # same"
    >>> without_docstrings(one) == without_docstrings(other)
    True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                del body[0]
    return ast.dump(tree)


def made_with() -> dict[str, Any]:
    """What every number depends on besides the settings: device, versions and code."""
    return dict(device=device(), versions=versions(), code=code())


def commit() -> str | None:
    """The git commit of this checkout, with `-dirty` where files differ from it; None outside a
    checkout."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None
