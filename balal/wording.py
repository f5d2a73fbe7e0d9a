"""Words for messages: lists that may be long, numbers of things, and names that look alike."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

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


def look_alike(names: Iterable[str]) -> list[list[str]]:
    """The groups of names of which people would say that they are the same: they differ by case,
    white space, invisible characters or Unicode form alone.

    >>> look_alike(["cat", "dog", "Cat"])
    [['cat', 'Cat']]
    """
    groups = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[" ".join(_as_shown(name).casefold().split())].append(name)
    return [group for group in groups.values() if len(group) > 1]


def told_apart(group: Sequence[str]) -> list[str]:
    """Such names in quotation marks, with all that is not ASCII written out where some look the
    same.

    >>> print(*told_apart(["cat", "ca\\u200bt"]))
    'cat' 'ca\\u200bt'
    """
    look_the_same = len(set(map(_as_shown, group))) < len(group)
    return [ascii(name) if look_the_same else quoted(name) for name in group]


def _as_shown(name: str) -> str:
    """What a screen shows of it: composed, and without invisible characters."""
    visible = "".join(each for each in name if unicodedata.category(each) != "Cf")
    return unicodedata.normalize("NFC", visible)
