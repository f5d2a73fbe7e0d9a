"""Rounds of retraining: some labels are bought, the target model is fitted to all of them, and what
it predicts for the pool decides the next ones."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, Key

from balal import check, labelled_set, loop, pools, preparation, simulation
from balal.strategies.base import Strategy, describe, member
from balal.types import Labelled, Pool


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
      indices: int32 [b], the rows bought in it, in order; none in a round that only fits a model to
        the labelled start.
      labelled: everything labelled by its end, the start included.
      model: the target model fitted to that.
    """

    indices: Int[np.ndarray, " b"]
    labelled: Labelled
    model: Any


def rounds(
    strategy: Strategy,
    pool: Pool,
    labels: Int[Array, " N"] | np.ndarray,
    *,
    fit: Callable[[np.ndarray, np.ndarray, Any], Any],
    predict: Callable[[Any], Any],
    sizes: Sequence[int],
    num_classes: int,
    key: Key[Array, ""],
    first: Strategy | None = None,
    labelled: Labelled | tuple[Any, Any] | None = None,
    query_size: int | None = 1,
) -> Iterator[Round]:
    """Buys labels in rounds, and yields a `Round` after each.

    From the second round on, or from the first if there is a labelled start, `pool.scores` (and
    `pool.logits`, if the strategy needs them) are those of the target model fitted to everything
    labelled so far. Each round is a selection of its own, with what is labelled as its start: its
    budget is the size of the round. One compiled program serves all of them.

    Args:
      strategy: of every round.
      pool: its scores and logits are those of the source model, and are used as long as there is
        no target model.
      labels: int [N], the true target classes; -1 where they are not known, for rows that are no
        candidates.
      fit: `fit(indices, labels, before) -> model` for the labelled rows, int [B] each; `before` is
        the model of the round before, to begin from, or None.
      predict: `predict(model) -> logits` of every row of the pool: [N, C], or [N, M, C] of an
        ensemble, column c for target class c, `-inf` for a class that it does not know. See
        `balal.heads.logistic.class_logits`.
      sizes: labels to buy in each round.
      num_classes: room for this many target classes.
      key: for everything random.
      first: the strategy as long as there is no target model (None: `strategy` itself).
      labelled: rows labelled at the start, as in `balal.init`; if there are any, the first `Round`
        only holds the model that is fitted to them.
      query_size: how many labels are asked for at once, before any of them is known; None: all of a
        round.

    Raises: ValueError as `balal.simulate` does, for a pool with fewer candidates than labels to
      buy, and for predictions of another shape.

    >>> import jax.numpy as jnp
    >>> from balal.strategies import strategy
    >>> rows = np.arange(6.0, dtype=np.float32)
    >>> pool = Pool(jnp.asarray(rows)[:, None])
    >>> nearest_mean = dict(
    ...     fit=lambda indices, labels, before: [rows[indices[labels == c]].mean() for c in (0, 1)],
    ...     predict=lambda means: -np.square(rows[:, None] - np.array(means)),
    ... )
    >>> start = (np.array([0, 5]), np.array([0, 1]))
    >>> steps = rounds(
    ...     strategy("ms"), pool, np.arange(6) // 3, sizes=[1, 1], num_classes=2,
    ...     key=jax.random.key(0), labelled=start, **nearest_mean,
    ... )
    >>> [step.indices.tolist() for step in steps]
    [[], [2], [3]]
    """
    sizes = [check.whole_number("sizes", size, least=1) for size in sizes]
    if not sizes:
        raise ValueError("sizes must name at least one round, and there is none")
    if query_size is not None:
        check.whole_number("query_size", query_size, least=1)
    start = _checked(strategy, first, pool, labelled, num_classes=num_classes)
    check.budget(sum(sizes), askable=check.candidates_left(pool, start))
    answers = check.labels(
        "labels",
        labels,
        num_classes=num_classes,
        size=check.rows_in(pool),
        needed=pool.candidates,
    )
    answers = np.asarray(answers)
    # Once, not in every round.
    pool = preparation.prepare_missing(strategy, preparation.fresh(strategy, pool))
    return _rounds(
        strategy,
        pool,
        np.asarray(answers),
        # Room for everything from the start: one program for all rounds.
        labelled_set.extend(start, sum(sizes)),
        fit=fit,
        predict=predict,
        sizes=sizes,
        num_classes=num_classes,
        key=key,
        first=strategy if first is None else first,
        query_size=query_size,
    )


def _rounds(
    strategy: Strategy,
    pool: Pool,
    labels: np.ndarray,
    start: Labelled,
    *,
    fit: Callable[[np.ndarray, np.ndarray, Any], Any],
    predict: Callable[[Any], Any],
    sizes: list[int],
    num_classes: int,
    key: Key[Array, ""],
    first: Strategy,
    query_size: int | None,
) -> Iterator[Round]:
    """The rounds, after all checks. A labelled start is a round of no labels before the others."""
    model, nothing = None, np.zeros(0, np.int32)
    begun = int(start.count) > 0
    for number, size in enumerate([0] * begun + sizes, start=-begun):
        seen = pool if model is None else _predicted(strategy, pool, predict(model))
        bought = nothing
        if size:
            bought = _bought(
                first if model is None else strategy,
                seen,
                labels,
                start,
                budget=size,
                most=max(sizes),
                num_classes=num_classes,
                key=jax.random.fold_in(key, number),
                query_size=size if query_size is None else query_size,
            )
        start = labelled_set.merge(
            start, labelled_set.make(bought, labels[bought], capacity=max(sizes))
        )
        rows, told = (
            np.asarray(column)[: int(start.count)] for column in (start.indices, start.labels)
        )
        model = fit(rows, told, model)
        yield Round(bought, start, model)


def _checked(
    strategy: Strategy, first: Strategy | None, pool: Pool, labelled: Any, *, num_classes: int
) -> Labelled:
    """The labelled start, after a check of all that no round checks."""
    for each in (strategy, first or strategy):
        check.strategy(each)
    check.pool(pool)
    start = check.labelled(labelled, pool=pool, num_classes=num_classes)
    if not isinstance(start, Labelled):
        start = labelled_set.make(*start)
    missing = [name for name in strategy.needs if getattr(pool, name) is None]
    if missing and first is None and not int(start.count):
        raise ValueError(
            f"{describe(strategy)} asks the target model, and there is none before the first "
            f"labels: pass first=balal.strategy('random') for the first round, or labelled="
        )
    return start


def _predicted(strategy: Strategy, pool: Pool, logits: Any) -> Pool:
    """The pool as the target model sees it."""
    rows = len(logits) if hasattr(logits, "__len__") else 0
    if rows != pool.num_rows:
        raise ValueError(
            f"predict must return a row of logits for each of the {pool.num_rows} rows of the "
            f"pool, got {rows}"
        )
    keep = "logits" in strategy.needs
    if not isinstance(logits, jax.Array):
        # Heads of this library predict in float64.
        logits = np.asarray(logits, np.float32)
    made = pools.pool(None, logits=logits, keep_logits=keep)
    return replace(pool, scores=made.scores, logits=made.logits)


def _bought(
    strategy: Strategy,
    pool: Pool,
    labels: np.ndarray,
    start: Labelled,
    *,
    budget: int,
    most: int,
    num_classes: int,
    key: Key[Array, ""],
    query_size: int,
) -> np.ndarray:
    """The rows of one round: int32 [b]."""
    options: dict[str, Any] = dict(num_classes=num_classes, key=key, labelled=start)
    if query_size == 1 or not member(strategy, "adaptive"):
        # One program serves rounds of several sizes, as long as there are candidates for the
        # largest.
        roomy = most <= check.candidates_left(pool, start)
        found = simulation.simulate(
            strategy, pool, labels, budget=budget, capacity=most if roomy else None, **options
        ).indices
        return np.asarray(found)[:budget]
    state = loop.init(strategy, pool, budget=budget, **options)
    asked: list[np.ndarray] = []
    for left in range(budget, 0, -query_size):
        rows, state = loop.ask(strategy, pool, state, size=min(query_size, left))
        asked.append(np.asarray(rows))
        state = loop.tell(strategy, pool, state, rows, labels[asked[-1]])
    return np.concatenate(asked)
