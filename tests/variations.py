"""Tests of many cases, of which the whole suite runs some."""

from collections.abc import Iterable
from typing import Any

import pytest


def some(values: Iterable[Any], *, kept: Iterable[Any]) -> list[Any]:
    """The values as parameters: those that are not kept run with the nightly tests."""
    return [
        pytest.param(value, marks=() if value in list(kept) else pytest.mark.nightly)
        for value in values
    ]
