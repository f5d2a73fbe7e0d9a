"""Labels that a strategy buys with several budgets and seeds. What is finished is kept; the rest is
simulated with as few compiled programs and runs as possible."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import balal
from balal.strategies import STRATEGIES, asks_target_model, member, registry
from experiments.common import cells, program, summary

# What a simulation bought: the rows [b], and the class that each was wanted for [b].
Bought = tuple[np.ndarray, np.ndarray]


def listed(
    values: Sequence[str], *, flag: str = "strategies", target_model: bool = False
) -> list[str]:
    """The strategies of a flag: registered names, paths to your own, or `all` that are registered.
    Each is looked up, so that a wrong one is reported before anything is read.

    target_model: whether the experiment has one to ask; `all` is without those that need one
    otherwise.
    """
    if list(values) == ["all"]:
        return [
            name
            for name in STRATEGIES
            if target_model or not asks_target_model(balal.strategy(name))
        ]
    for value in values:
        try:
            asks = _asks(value)
        except ValueError as error:
            raise ValueError(f"--{flag}: {error}") from error
        if asks and not target_model:
            raise ValueError(
                f"--{flag}: {value} asks the target model, and there is none here; "
                f"experiments.rounds refits one after every round"
            )
    return program.listed(flag, values, values)


def _asks(name: str) -> bool:
    return asks_target_model(balal.strategy(name))


def rules_of(name: str, rules: Sequence[str]) -> list[str]:
    """The rules that can follow a strategy: none where it looks at answers itself."""
    return ["none"] if member(balal.strategy(name), "adaptive") else list(rules)


def seeds_of(name: str, most: int) -> range:
    """The seeds that a strategy is run with: only one where it does not use chance."""
    return range(1 if member(balal.strategy(name), "uses_chance") is False else most)


def check_budgets(budgets: Sequence[int], num_rows: int) -> None:
    """ValueError if the largest budget, the last, asks for more rows than the pool has."""
    if budgets[-1] > num_rows:
        raise ValueError(
            f"--budgets goes up to {budgets[-1]}, but the pool has only {num_rows} rows"
        )


def buy(
    run: Callable[[int, list[int]], Iterable[Bought]],
    folder: Path,
    name: str,
    *,
    labels: np.ndarray,
    num_classes: int,
    budgets: Sequence[int],
    seeds: Sequence[int],
    nested: bool,
) -> dict[tuple[int, int], dict[str, Any]]:
    """What is bought with every budget and seed: the result of `summary.measure` by (budget, seed).

    Args:
      run: `run(budget, seeds)` buys that many labels with each seed; it is called for what is not
        stored yet.
      folder: where the cells are stored.
      name: of the cells.
      labels: int [N], those of the whole pool.
      budgets: in ascending order.
      nested: whether the picks of a small budget are the first ones of a larger one, so that only
        the largest is run.
    """
    names = {
        (budget, seed): f"picks-{name}-{budget}-{seed}" for budget in budgets for seed in seeds
    }
    done = {key: cells.read(folder, cell) for key, cell in names.items()}
    for together in [list(budgets)] if nested else [[budget] for budget in budgets]:
        missing = [seed for seed in seeds if any(done[budget, seed] is None for budget in together)]
        if not missing:
            continue
        for seed, (rows, wanted) in zip(missing, run(together[-1], missing), strict=True):
            for budget in together:
                measured = summary.measure(
                    rows[:budget], labels[rows[:budget]], wanted[:budget], num_classes=num_classes
                )
                cells.write(folder, names[budget, seed], measured)
                done[budget, seed] = measured
    return {key: picks for key, picks in done.items() if picks is not None}


def cell_name(name: str) -> str:
    """A strategy's name as part of a file name. Your own strategy's includes a fingerprint of its
    code, since its picks change with it.

    >>> cell_name("random+balance")
    'random+balance'
    """
    first, _ = registry.split(name)
    if first in STRATEGIES:
        return name
    return f"{re.sub('[^A-Za-z0-9_.+-]', '_', name)}-{registry.source(name) or 'own'}"


def one_shot(
    strategy: balal.Strategy,
    pool: balal.Pool,
    labels: jax.Array | np.ndarray,
    *,
    budget: int,
    num_classes: int,
    key: jax.Array,
    capacity: int,
    labelled: tuple[np.ndarray, np.ndarray] | None = None,
) -> balal.Result:
    """What `balal.simulate` buys, with `labelled` rows and labels to begin with if there are any.

    A strategy of several stages is simulated stage by stage, each starting with the labels that the
    earlier ones bought, so that programs compiled for one strategy serve the next.
    """
    options: dict[str, Any] = dict(num_classes=num_classes, key=key)
    stages = member(strategy, "stages")()
    if labelled or budget <= sum(number for _, number in stages[:-1]):
        options |= dict(capacity=capacity, labelled=labelled)
        return balal.simulate(strategy, pool, labels, budget=budget, **options)
    parts: list[balal.Result] = []
    for stage, number in stages:
        spent = sum(len(part.indices) for part in parts)
        start = None
        if parts:
            columns = ([getattr(part, name) for part in parts] for name in ("indices", "labels"))
            start = tuple(map(jnp.concatenate, columns))
        part = balal.simulate(
            stage,
            pool,
            labels,
            budget=(budget - spent) if number is None else number,
            capacity=capacity - spent,
            labelled=start,
            **options,
        )
        if number is not None:
            part = replace(
                part,
                indices=part.indices[:number],
                labels=part.labels[:number],
                wanted=part.wanted[:number],
            )
        parts.append(part)
    bought = {
        name: jnp.concatenate([getattr(part, name) for part in parts])
        for name in ("indices", "labels", "wanted")
    }
    return replace(parts[-1], **bought)


def without_source(strategy: Any, num_classes: int) -> balal.Strategy:
    """The strategy; one that takes clusters in place of a source model's classes with as many of
    them as there are target classes, so that it needs no scores.

    >>> without_source(balal.strategy("prob_cover"), 10).needs
    ('features',)
    """
    fields = getattr(strategy, "__dataclass_fields__", {})
    if "scores" not in strategy.needs or "clusters" not in fields:
        return strategy
    clustered = replace(strategy, clusters=num_classes)
    return strategy if "scores" in clustered.needs else clustered
