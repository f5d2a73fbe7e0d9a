"""Strategies by name: the published ones, those of installed packages, and your own.

A name is a first strategy, optionally followed by `+` and a rule that takes over from it:
`ent_inv_div`, `random+balance`, `core_set+balance_printed`. The first strategy may also be your
own, named by its location: `mine.py:Largest` in a file, `package.module:VALUE` in a module.
Installed packages register their strategies in the entry-point group `balal.strategies`.
"""

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from balal import check
from balal.strategies.badge import Badge
from balal.strategies.balanced import Balanced
from balal.strategies.bald import Bald
from balal.strategies.base import Strategy
from balal.strategies.cbal import Cbal, CbalCoreSet
from balal.strategies.cluster_margin import ClusterMargin
from balal.strategies.core_set import CoreSet
from balal.strategies.direct import Direct
from balal.strategies.galaxy import Galaxy
from balal.strategies.k_means_plus_plus import KMeansPlusPlus
from balal.strategies.max_herding import MaxHerding
from balal.strategies.posterior import Posterior
from balal.strategies.posterior_0_1 import Posterior01
from balal.strategies.prob_cover import ProbCover
from balal.strategies.refine import Refine
from balal.strategies.similar import Similar
from balal.strategies.tail_first import TailFirst
from balal.strategies.tailor import Tailor
from balal.strategies.typiclust import TypiClust
from balal.strategies.u_herding import UHerding
from balal.strategies.uncertainty import Random, Uncertainty

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
    "k_means_plus_plus": KMeansPlusPlus(),
    "typiclust": TypiClust(),
    "prob_cover": ProbCover(),
    "max_herding": MaxHerding(),
    "u_herding": UHerding(),
    "posterior": Posterior(),
    "posterior_0_1": Posterior01(),
    "cbal": Cbal(),
    "cbal_core_set": CbalCoreSet(),
    "badge": Badge(),
    "cluster_margin": ClusterMargin(),
    "bald": Bald(),
    "variation_ratio": Bald("variation_ratio"),
    "tail_first": TailFirst("least_confidence"),
    "ms_balanced": TailFirst("margin"),
    "galaxy": Galaxy(),
    "direct": Direct(),
    "tailor": Tailor(),
    "similar": Similar(),
    "refine": Refine(),
}

RULES: dict[str, Callable[[Strategy], Strategy]] = {
    "balance": lambda first: Balanced(first),
    "balance_printed": lambda first: Balanced(first, denominator="max", patience=None),
    "posterior": lambda first: Posterior(first),
    "posterior_0_1": lambda first: Posterior01(first),
}

GROUP = "balal.strategies"


def names() -> tuple[str, ...]:
    """Every name registered by this library: the strategies, then each of them with each rule.

    >>> names()[:2], len(names())
    (('random', 'ent'), 170)
    """
    return (*STRATEGIES, *(f"{first}+{rule}" for rule in RULES for first in STRATEGIES))


def strategy(name: str) -> Strategy:
    """The strategy with a name.

    Args:
      name: a published name; that of an entry point in the group `balal.strategies`; or
        `path/to/file.py:ATTRIBUTE` or `package.module:ATTRIBUTE`, which is a strategy or a class
        that needs no arguments. Each may be followed by `+` and a rule. Naming a file or module
        runs its code.

    Raises: ValueError for an unknown name, with the nearest known ones, and for anything that is
      not a strategy.

    >>> strategy("ent_inv_div+balance").first
    Uncertainty(score='entropy', inverted=True, diversified=True)
    """
    if not isinstance(name, str):
        raise ValueError(f"a strategy is looked up by its name, got {name!r}")
    first, rule = split(name)
    found = STRATEGIES[first] if first in STRATEGIES else _own(first, name)
    return RULES[rule](found) if rule else found


def split(name: str) -> tuple[str, str]:
    """The first strategy and the rule in a name, "" for no rule.

    >>> split("random+balance"), split("dir+x/mine.py:Largest")
    (('random', 'balance'), ('dir+x/mine.py:Largest', ''))
    """
    first, plus, rule = name.rpartition("+")
    return (first, rule) if plus and rule in RULES else (name, "")


def source(name: str) -> str | None:
    """A fingerprint of the file that a user's strategy is in, None for those of this library:
    finished results belong to one version of the file.

    Raises: as `strategy` does.
    """
    first, _ = split(name)
    if first in STRATEGIES:
        return None
    module = sys.modules[type(_own(first, name)).__module__]
    file = getattr(module, "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else None


def _own(first: str, name: str) -> Strategy:
    """A strategy from outside this library."""
    where, colon, attribute = first.rpartition(":")
    if colon:
        value = _attribute(where, attribute, name)
    else:
        installed = {point.name: point for point in entry_points(group=GROUP)}
        if first not in installed:
            known = [*names(), *installed]
            near = difflib.get_close_matches(name, known, n=4, cutoff=0.3) or list(STRATEGIES)
            raise ValueError(
                f"no strategy is called {name!r}; the nearest known names are {', '.join(near)}; "
                f"name your own by its location, mine.py:Largest or package.module:VALUE"
            )
        value = installed[first].load()
    if isinstance(value, type):
        try:
            value = value()
        except TypeError as error:
            raise ValueError(
                f"{name!r} is a class that needs settings ({error}): name an instance of it, "
                f"{attribute or first} = {value.__name__}(...)"
            ) from None
    check.strategy(value)
    return value


def _attribute(where: str, attribute: str, name: str) -> Any:
    path = Path(where).expanduser()
    try:
        module = _module(path) if where.endswith(".py") else importlib.import_module(where)
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not path.exists():
            cause = f"there is no file {where}"
        elif isinstance(error, ModuleNotFoundError) and error.name and where.startswith(error.name):
            cause = f"there is no module {where}"
        else:
            cause = f"{where} cannot be imported ({type(error).__name__}: {error})"
        raise ValueError(
            f"{cause}, so {name!r} names no strategy: name a file as mine.py:Largest, a module as "
            f"package.module:VALUE"
        ) from error
    if not hasattr(module, attribute):
        public = [each for each in vars(module) if not each.startswith("_")]
        near = difflib.get_close_matches(attribute, public, n=3, cutoff=0.3) or public[:5]
        raise ValueError(
            f"{where} has no {attribute!r}; the nearest names there are {', '.join(near) or 'none'}"
        )
    return getattr(module, attribute)


def _module(path: Path) -> Any:
    """The module of a file. The same code is run once, however often it is asked for."""
    path = path.resolve()
    code = hashlib.sha256(str(path).encode() + b"\0" + path.read_bytes())
    name = f"balal_own_{path.stem}_{code.hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
