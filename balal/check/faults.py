"""The first offending rows, in words."""

from typing import Any

import numpy as np
from jax.core import Tracer

from balal.wording import first_few


def concrete(value: Any) -> bool:
    """Whether the values of an array are known, and not its shape alone."""
    return not isinstance(value, Tracer)


def refuse(
    bad: Any,
    message: str,
    *,
    offset: int = 0,
    verb: str = "are",
    noun: str = "row",
    rows: np.ndarray | None = None,
) -> None:
    """ValueError if any row is bad.

    Args:
      bad: bool [n].
      message: in whose braces the first offending rows are put, with noun and verb.
      offset: the row number of the first row, for blocks of a larger array.
      verb, noun: as of `some`.
      rows: the row number of each (None: 0, 1, 2, ..., from `offset` on).
    """
    if bad.any():
        found = np.flatnonzero(bad) + offset if rows is None else rows[bad]
        raise ValueError(message.format(some(found, noun, verb=verb)))


def some(values: np.ndarray, noun: str, *, verb: str = "are") -> str:
    """The first few of `values` with noun and verb, in singular or plural."""
    one = {
        "are": "is",
        "were": "was",
        "have": "has",
        "do": "does",
        "hold negative values": "holds negative values",
    }
    if len(values) > 1:
        return f"{noun}s {first_few(values)} {verb}"
    return f"{noun} {first_few(values)} {one[verb]}"
