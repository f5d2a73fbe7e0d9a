"""Words for messages: lists that may be long, and numbers of things."""

from collections.abc import Sequence

import numpy as np


def first_few(values: Sequence | np.ndarray, *, shown: int = 5) -> str:
    """The first few of the offending values, and how many there are if there are more; for
    messages.

    >>> first_few("abcdefg")
    'a, b, c, d, e, ... (7 in all)'
    """
    first = ", ".join(str(value) for value in values[:shown])
    return f"{first}, ... ({len(values)} in all)" if len(values) > shown else first


def plural(number: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "label"), plural(0, "label")
    ('1 label', '0 labels')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
