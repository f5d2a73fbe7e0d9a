"""The registry: published name -> strategy value.

A name is a first strategy, optionally followed by `+` and a rule that takes over from it:
`ent_inv_div`, `random+balance`, `core_set+balance_printed`.
"""

import difflib
from collections.abc import Callable

from balal.strategies.balanced import Balanced
from balal.strategies.base import Order, Ordered, Strategy
from balal.strategies.core_set import CoreSet
from balal.strategies.posterior import Posterior
from balal.strategies.uncertainty import Random, Uncertainty

__all__ = [
    "RULES", "STRATEGIES", "Balanced", "CoreSet", "Order", "Ordered", "Posterior", "Random", "Strategy", "Uncertainty", "names", "strategy",
]  # fmt: skip

STRATEGIES: dict[str, Strategy] = {
    "random": Random(),
    "ent": Uncertainty("entropy"),
    "ms": Uncertainty("margin"),
    "lc": Uncertainty("least_confidence"),
    "ent_inv": Uncertainty("entropy", inverted=True),
    "ms_inv": Uncertainty("margin", inverted=True),
    "lc_inv": Uncertainty("least_confidence", inverted=True),
    "ent_div": Uncertainty("entropy", diversified=True),
    "ms_div": Uncertainty("margin", diversified=True),
    "lc_div": Uncertainty("least_confidence", diversified=True),
    "ent_inv_div": Uncertainty("entropy", inverted=True, diversified=True),
    "ms_inv_div": Uncertainty("margin", inverted=True, diversified=True),
    "lc_inv_div": Uncertainty("least_confidence", inverted=True, diversified=True),
    "core_set": CoreSet(),
    "posterior": Posterior(),
}

RULES: dict[str, Callable[[Strategy], Strategy]] = {
    "balance": lambda first: Balanced(first),
    "balance_printed": lambda first: Balanced(first, denominator="max", patience=None),
    "posterior": lambda first: Posterior(first),
}


def names() -> tuple[str, ...]:
    """Every registered name: the strategies, then each of them with each rule.

    >>> names()[:2], len(names())
    (('random', 'ent'), 60)
    """
    return (*STRATEGIES, *(f"{first}+{rule}" for rule in RULES for first in STRATEGIES))


def strategy(name: str) -> Strategy:
    """The strategy value of a published name.

    Raises: ValueError for an unknown name, with the nearest known ones.

    >>> strategy("ent_inv_div+balance")
    Balanced(first=Uncertainty(score='entropy', inverted=True, diversified=True), denominator='min',
    patience=3, ties='lowest', \
at_mean='nowhere', known_classes='found', latch=True)
    """
    if not isinstance(name, str):
        raise ValueError(f"a strategy is looked up by its name, got {name!r}")
    first, _, rule = name.partition("+")
    if first in STRATEGIES and (rule in RULES or name == first):
        return RULES[rule](STRATEGIES[first]) if rule else STRATEGIES[first]
    near = difflib.get_close_matches(name, names(), n=4, cutoff=0.3) or list(STRATEGIES)
    raise ValueError(
        f"no strategy is called {name!r}; the nearest known names are {', '.join(near)}"
    )
