"""Makes Markdown of this library's docstrings, for the reference pages: examples become code, the
arguments of a function and the fields of a class become lists. Names that a package imports are
shown in the module that defines them, once.

mkdocs.yml names this file as an extension of griffe, which reads the sources without importing
them.
"""

import ast
import re
import textwrap
from typing import Any

import griffe

_LABELS = ("Returns", "Raises", "Source", "Args")


class Docstrings(griffe.Extension):
    """Rewrites every docstring once the sources have been read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if isinstance(obj, griffe.Module):
            obj.exports = None
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value, _names(obj))


def markdown(text: str, names: set[str]) -> str:
    """A docstring as Markdown. names: of the arguments or fields that it describes."""
    return "\n\n".join(_block(block, names) for block in re.split(r"\n\s*\n", text))


def _names(obj: griffe.Object) -> set[str]:
    parameters = obj.parameters if isinstance(obj, griffe.Function | griffe.Class) else ()
    fields = obj.members if isinstance(obj, griffe.Class) else ()
    return {parameter.name for parameter in parameters} | set(fields)


def _block(block: str, names: set[str]) -> str:
    if block.startswith(">>>"):
        return f"```pycon\n{block}\n```"
    if block.startswith("    "):
        return block
    if _is_code(block):
        return f"```python\n{block}\n```"
    label, colon, rest = block.partition(":")
    if colon and label in _LABELS:
        rest = textwrap.dedent(rest) if label == "Args" else " ".join(rest.split())
        items = _items(rest, names) if label == "Args" else ""
        title = "Arguments" if label == "Args" else label
        return f"**{title}**\n\n{items}" if items else f"**{title}:** {rest.strip()}"
    return _items(block, names) or block


def _is_code(block: str) -> bool:
    """Whether a paragraph is a program: sentences are none."""
    try:
        statements = ast.parse(block).body
    except SyntaxError:
        return False
    return any(isinstance(statement, ast.Assign | ast.ImportFrom) for statement in statements)


def _items(text: str, names: set[str]) -> str:
    """A list with an item for each described name; nothing where the text describes none."""
    known = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    begin = rf"(?:{known})(?:, (?:{known}))*: "
    if not names or not re.match(begin, text.strip()):
        return ""
    items = re.split(rf"(?:(?<=[.;]\s)|(?<=\n))(?={begin})|\n(?=\S)(?=[A-Z][\w ]+: )", text.strip())
    return "\n".join("- " + re.sub(r"^([\w, ]+):", r"**\1**:", " ".join(i.split())) for i in items)
