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
    offset: int = 0,
    *,
    verb: str = "are",
    noun: str = "row",
    rows: np.ndarray | None = None,
) -> None:
    """Raises with the first offending rows put into the message's braces."""
    if bad.any():
        found = np.flatnonzero(bad) + offset if rows is None else rows[bad]
        raise ValueError(message.format(some(found, noun, verb)))


def some(values: np.ndarray, noun: str, verb: str | None = None) -> str:
    """The first few of `values` with noun and verb, in singular or plural."""
    one = {
        "are": "is",
        "were": "was",
        "have": "has",
        "do": "does",
        "hold negative values": "holds negative values",
    }
    verb = verb or "are"
    if len(values) > 1:
        return f"{noun}s {first_few(values)} {verb}"
    return f"{noun} {first_few(values)} {one[verb]}"
