"""One sentence where memory runs out in the middle of a selection: what was being done, what is
free, and what would fit."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax

from balal import cost, machine, preparation

P = ParamSpec("P")
R = TypeVar("R")


def told(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with a MemoryError of one sentence for every error that says that memory has
    run out, on the host or on a device. What would fit is worked out only then.

    Args:
      function: one of `balal` that takes a strategy and a pool, and a state or else a budget and
        the number of classes.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = function(*args, **kwargs)
            # On CPUs a program runs in the background, and would fail where its result is read.
            if not preparation.traced(result):
                jax.block_until_ready(result)
            return result
        except (MemoryError, RuntimeError) as error:
            if not machine.out_of_memory(error):
                raise
            given = inspect.signature(function).bind(*args, **kwargs).arguments
            raise MemoryError(
                f"balal.{function.__name__} ran out of memory ({machine.details(error)}): "
                f"{_what_fits(given)}"
            ) from error

    # Where it is found again when it is unpickled.
    call.__module__ = "balal"
    return call


def _what_fits(given: Mapping[str, Any]) -> str:
    state, size = given.get("state"), None
    if state is not None:
        num_classes, budget, size = state.num_classes, state.budget, 1
    else:
        num_classes, budget = given["num_classes"], given["budget"]
        if "labels" not in given:
            size = 1
        elif given.get("capacity") is not None:
            budget = given["capacity"]
    return cost.what_fits(
        given["strategy"], given["pool"], num_classes=num_classes, budget=budget, size=size
    )
