"""What a strategy is: the protocol that all of them follow, and the short form for those that do
not use answers.

Inherit `Strategy` or `Ordered` to get the defaults for what you leave out. A class that inherits
neither must have `needs`, `init`, `ask` and `tell`; the defaults stand in for the rest as well.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from balal.types import Labelled, Pick, Pool, available

Budget = int | Int[Array, ""]


@dataclass(frozen=True)
class Names:
    """What the classes are called in sentences for people.

    Attributes:
      target: names of the target classes, by class id.
      source: names of the source classes.
    """

    target: Sequence[str] = ()
    source: Sequence[str] = ()

    def of_target(self, label: int) -> str:
        """
        >>> Names(("cat",)).of_target(0), Names().of_target(3)
        ('cat', 'class 3')
        """
        return self.target[label] if 0 <= label < len(self.target) else f"class {label}"

    def of_source(self, label: int) -> str:
        """
        >>> Names().of_source(7)
        'source class 7'
        """
        return self.source[label] if 0 <= label < len(self.source) else f"source class {label}"


@runtime_checkable
class Strategy(Protocol):
    """A frozen value whose fields are hyper-parameters: equal strategies hash equal and share one
    compilation.

    `prepare`, `init`, `ask`, `tell` and `grow` are pure and run inside jit. `memory` is any pytree
    that makes a pick cheap. All that a strategy knows of answers came through `init` and `tell` and
    is in its memory. What must survive saving, late answers and a changed pool has to follow from
    `init` and the `tell`s after it: whatever `ask` changes in the memory is a convenience that may
    be dropped. If `ask` uses randomness, it derives it from a key in the memory and from
    `labelled.count`.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `Pool` that it reads: ("scores",), ("features",), ..."""
        return ()

    # How it picks.

    def prepare(self, pool: Pool) -> Any:
        """What follows from the features and candidates alone: a pytree of arrays, or None for
        nothing.

        It is computed once, kept in `pool.prepared` under `prepared_key`, and read with
        `prepared(self, pool)`. `pool` has nothing but its features and candidates.
        """
        return None

    def init(
        self,
        pool: Pool,
        labelled: Labelled,
        budget: Budget,
        num_classes: int,
        key: Key[Array, ""],
    ) -> Any:
        """The memory before at most `budget` new labels are bought. Rows of `labelled` may still be
        unanswered: their label is -1.

        `labelled` has room for all of the new labels. The budget is a whole number, or an array
        where one program serves several budgets: then that room sets the shapes (see
        `largest_budget`).

        In the middle of a budget, after the pool has changed, it is called again with all rows
        labelled and pending so far and with the same `budget`, part of which is spent by then:
        `labelled` only has room for the labels that may still be bought.
        """
        ...

    def ask(self, memory: Any, pool: Pool, labelled: Labelled) -> tuple[Pick, Any]:
        """One pick, and the memory.

        `labelled` says what may be asked, how much is spent and which class each row was wanted
        for. Do not read its labels: they came through `init` and `tell`.
        """
        ...

    def tell(self, memory: Any, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]) -> Any:
        """The memory after one answer. A label of -1 changes nothing."""
        ...

    def grow(self, memory: Any, num_classes: int) -> Any:
        """The same memory with room for more classes; None: rebuild it from the answers."""
        return None

    # How it describes itself.

    @property
    def adaptive(self) -> bool:
        """Whether picks depend on answers. A rule can take over from strategies that do not."""
        return True

    @property
    def uses_chance(self) -> bool | None:
        """Whether another key gives other picks. None: unknown; programs then run it with several
        keys, as if it did."""
        return None

    @property
    def nested(self) -> bool:
        """Whether the picks of a small budget are the first ones of a larger one: if so, only the
        largest budget is simulated."""
        return False

    @property
    def target_model(self) -> bool:
        """Whether it goes by what the target model predicts, so that it needs one that is refitted
        as labels come: see `balal.rounds`."""
        return False

    @property
    def counts_rows(self) -> bool:
        """Whether it goes by whole numbers, so that rows which differ are often level, and the
        lowest of them is picked: then the order of the rows of a pool matters."""
        return False

    @property
    def version(self) -> int:
        """Increased by every change that makes the same settings pick other rows."""
        return 1

    @property
    def prepared_key(self) -> str:
        """The key in `pool.prepared` for what `prepare` makes: type and settings, unless many
        settings share one."""
        return describe(self)

    def stages(self) -> tuple[tuple["Strategy", int | None], ...]:
        """Strategies that together make the same picks one after another, each with the number of
        labels that it buys (None for the last). Programs simulate them separately, so that they
        share compiled programs."""
        return ((self, None),)

    def aim(self, weights: tuple[float, ...]) -> "Strategy":
        """The strategy with these weights for the labels of each class; itself if it cannot have a
        target."""
        return self

    def flops(
        self, num_rows: int, num_features: int, num_classes: int, budget: int
    ) -> float | None:
        """Floating-point operations for a whole budget, in its plain form, without the scores.
        None: unknown."""
        return None

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        """A sentence about each pick: why it was made. Runs on the host.

        Args:
          memory: after the answers so far.
          pool: the pool.
          labelled: the answers so far.
          picks: index and wanted, [n] each, in the order in which they were asked for.
          names: of target and source classes.
        """
        wanted = np.asarray(picks.wanted).tolist()
        return [f"asked for {names.of_target(c)}" if c >= 0 else "asked next" for c in wanted]


def member(strategy: Any, name: str) -> Any:
    """A method or property of a strategy, or the protocol's default if it has none.

    >>> member(object(), "nested")
    False
    """
    if hasattr(strategy, name):
        return getattr(strategy, name)
    default = vars(Strategy)[name]
    return default.__get__(strategy, type(strategy))


def prepared(strategy: Any, pool: Pool) -> Any:
    """What the strategy's `prepare` makes of the pool: kept there, or computed now. Runs inside
    jit."""
    key = member(strategy, "prepared_key")
    if key in pool.prepared:
        return pool.prepared[key].value
    return member(strategy, "prepare")(alone(pool))


def alone(pool: Pool) -> Pool:
    """The pool as `prepare` sees it: features and candidates."""
    return Pool(features=pool.features, candidates=pool.candidates)


def prepares(strategy: Any) -> bool:
    """Whether a strategy has anything to prepare."""
    own = getattr(type(strategy), "prepare", Strategy.prepare)
    return own is not Strategy.prepare


def reasons_of_rule(
    sentence: Callable[[int], str],
    first: Any,
    first_memory: Any,
    pool: Pool,
    labelled: Labelled,
    picks: Pick,
    names: Names,
) -> list[str]:
    """The reasons of a rule: its own sentence for picks that it aimed at a class, and for the
    others that of the strategy which it follows."""
    wanted = np.asarray(picks.wanted)
    followed = Pick(np.asarray(picks.index)[wanted < 0], wanted[wanted < 0])
    reasons = iter(member(first, "reason")(first_memory, pool, labelled, followed, names))
    return [sentence(label) if label >= 0 else next(reasons) for label in wanted.tolist()]


def parts(strategy: Any) -> Iterator[Any]:
    """The strategy, and every strategy in its fields, and in theirs, each once.

    >>> from balal.strategies import strategy
    >>> [type(part).__name__ for part in parts(strategy("core_set+balance"))]
    ['Balanced', 'CoreSet']
    """
    found: list[Any] = []
    waiting = [strategy]
    while waiting:
        value = waiting.pop()
        if isinstance(value, tuple | list):
            waiting += reversed(value)
        elif hasattr(value, "ask") and not isinstance(value, type) and value not in found:
            found.append(value)
            own = fields(value) if is_dataclass(value) else ()
            waiting += [getattr(value, field.name) for field in reversed(own)]
    return iter(found)


def asks_target_model(strategy: Any) -> bool:
    """Whether a strategy, or one in it, goes by what a target model predicts.

    >>> from balal.strategies import strategy
    >>> asks_target_model(strategy("galaxy+balance")), asks_target_model(strategy("ms"))
    (True, False)
    """
    return any("logits" in part.needs or member(part, "target_model") for part in parts(strategy))


def describe(strategy: Any) -> str:
    """Type, version and the settings that differ from the defaults, in one line. Adding a field
    with a default does not change it.

    >>> from balal.strategies import strategy
    >>> describe(strategy("ent_inv+balance")), describe(strategy("ent"))
    ('Balanced(first=Uncertainty(inverted=True))', 'Uncertainty()')
    """
    if isinstance(strategy, tuple):
        return f"({', '.join(map(describe, strategy))}{',' * (len(strategy) == 1)})"
    if not is_dataclass(strategy) or isinstance(strategy, type):
        return repr(strategy)
    settings = [
        f"{field.name}={describe(getattr(strategy, field.name))}"
        for field in fields(strategy)
        if not is_default(field, getattr(strategy, field.name))
    ]
    version = member(strategy, "version") if hasattr(strategy, "ask") else 1
    number = f" version {version}" if version != 1 else ""
    return f"{type(strategy).__qualname__}({', '.join(settings)}){number}"


def is_default(field: Any, value: Any) -> bool:
    """Whether a value is the default of its dataclass field."""
    default = field.default if field.default_factory is MISSING else field.default_factory()
    # Of the same type: True is not 1.
    return type(value) is type(default) and value == default


def largest_budget(labelled: Labelled, budget: Budget) -> int:
    """The most labels that `budget` may be: itself, or the room in `labelled` if it is an array."""
    return labelled.indices.shape[0] if isinstance(budget, jax.Array) else budget


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Order:
    """Memory of an ordered strategy.

    Attributes:
      indices: int32 [b], the rows in the order in which they will be asked, -1 where candidates ran
        out.
    """

    indices: Int[Array, "*S b"]


@dataclass(frozen=True)
class Ordered(Strategy):
    """Base of the strategies that rank the pool in one shot: implement `order`, and `needs` if they
    need something other than the scores."""

    @property
    def needs(self) -> tuple[str, ...]:
        return ("scores",)

    @property
    def adaptive(self) -> bool:
        return False

    def order(
        self, pool: Pool, labelled: Labelled, budget: int, key: Key[Array, ""]
    ) -> Int[Array, " budget"]:
        """The `budget` rows to ask for, in order: distinct candidates outside `labelled`; -1 at the
        end if there are too few."""
        raise TypeError(f"{type(self).__name__} must implement order(pool, labelled, budget, key)")

    def init(
        self,
        pool: Pool,
        labelled: Labelled,
        budget: Budget,
        num_classes: int,
        key: Key[Array, ""],
    ) -> Order:
        del num_classes
        most = largest_budget(labelled, budget)
        possible = min(most, pool.num_rows)
        order = self.order(pool, labelled, possible, key)
        return Order(jnp.pad(order, (0, most - possible), constant_values=-1))

    def ask(self, memory: Order, pool: Pool, labelled: Labelled) -> tuple[Pick, Order]:
        free = available(pool, labelled)
        askable = (memory.indices >= 0) & free[memory.indices]
        first = memory.indices[jnp.argmax(askable)]
        index = jnp.where(jnp.any(askable), first, -1).astype(jnp.int32)
        return Pick(index, jnp.int32(-1)), memory

    def tell(
        self, memory: Order, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]
    ) -> Order:
        del pool, index, label
        return memory

    def grow(self, memory: Order, num_classes: int) -> Order:
        del num_classes
        return memory
