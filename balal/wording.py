"""Words for messages: lists that may be long, and numbers of things."""

from collections.abc import Sequence

import numpy as np


def first_few(values: Sequence | np.ndarray, *, shown: int = 5) -> str:
    """The first few of the offending values, and how many there are if there are more; for
    messages.

    >>> first_few("abcdefg")
    'a, b, c, d, e, ... (7 in all)'
    """
    first = ", ".join(printable(str(value)) for value in values[:shown])
    return f"{first}, ... ({len(values)} in all)" if len(values) > shown else first


def plural(number: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "label"), plural(0, "label")
    ('1 label', '0 labels')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    r"""The text with what a terminal would not print as itself, such as escape bytes, written as in
    Python.

    >>> print(printable("red \x1b[31m"))
    red \x1b[31m
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def quoted(text: str) -> str:
    r"""The text in quotation marks, short enough for a sentence, with what is not printed written
    as in Python.

    >>> print(quoted("a\tb"))
    'a\tb'
    """
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
