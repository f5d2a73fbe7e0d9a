"""Runs of strategies in rounds: the target model is fitted to all labels after each round, what it
predicts for the pool decides the next one, and heads are tested on the labels of every round.

Strategies that do not ask the target model go on from what is labelled.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

import balal
from experiments.common import (
    buying,
    cells,
    datasets,
    draws,
    report,
    summary,
    target_models,
    workers,
)


@dataclass(frozen=True)
class Plan:
    """How labels are bought on a pool.

    Attributes:
      strategies: by their names.
      first: the strategy before there is a target model; None: each begins by itself, those that
        need scores at random.
      start: labels drawn at random before the first round.
      sizes: labels to buy in each round.
      query_size: rows asked at a time within a round; None: all of them.
      model: the target model that is asked, of `target_models.MODELS`.
      heads: what is tested, of `classifiers.COMPARED`.
      seeds: how many paired runs.
      seed: of everything random.
    """

    strategies: Mapping[str, balal.Strategy]
    first: str | None
    start: int
    sizes: list[int]
    query_size: int | None
    model: str
    heads: list[str]
    seeds: int
    seed: int

    def described(self) -> dict[str, Any]:
        """JSON values, the strategies by name."""
        return {**vars(self), "strategies": list(self.strategies)}


def gather(
    loaded: Mapping[str, datasets.Dataset],
    plans: Mapping[str, Plan],
    *,
    out: Path,
    fresh: bool,
    processes: int,
) -> list[dict[str, Any]]:
    """A flat dictionary for every pool, strategy, seed and round: `pool`, `strategy`, `rule`
    ("none"), `budget` (labels by the end of the round), `seed`, what `summary.measure` says, and
    `accuracy HEAD` and `macro_f1 HEAD` for each head.

    Args:
      loaded: the pools by name. plans: one for each.
      out: finished runs and heads are kept in its folder `cells`. fresh: delete those first.
      processes: how many fit heads beside the selection.

    Raises: ValueError where a pool does not allow its plan, before anything is bought.
    """
    for name, dataset in loaded.items():
        _check(plans[name], name, dataset)
    total = sum(len(plan.strategies) * plan.seeds for plan in plans.values())
    runs: list[dict[str, Any]] = []
    with (
        workers.processes(processes) as executor,
        tqdm(total=total, unit="run", disable=None) as progress,
    ):
        for name, dataset in loaded.items():
            configuration = _configuration(plans[name], dataset)
            folder = cells.folder(out / "cells" / name, configuration, fresh=fresh)
            runs += _pool_runs(plans[name], name, dataset, folder, executor, progress)
    return runs


def _check(plan: Plan, name: str, dataset: datasets.Dataset) -> None:
    """ValueError where a draw of the pool has too few rows, or lacks what a strategy needs before
    there is a target model."""
    kept = draws.size(len(dataset.labels))
    wanted = plan.start + sum(plan.sizes)
    if wanted > kept:
        raise ValueError(
            f"--start and --sizes add up to {wanted} labels, and a draw of {name} has only {kept} "
            f"rows: choose fewer"
        )
    needs = balal.strategy(plan.first).needs if plan.first else ()
    if not plan.start and dataset.scores is None and "scores" in needs:
        raise ValueError(
            f"--first={plan.first} needs source scores, but {name} has none: choose another"
        )


def _configuration(plan: Plan, dataset: datasets.Dataset) -> dict[str, Any]:
    """Everything that the cells of a pool depend on, apart from what their names say."""
    return dict(
        files=dataset.files,
        seed=plan.seed,
        share=draws.SHARE,
        first=plan.first,
        start=plan.start,
        sizes=plan.sizes,
        query_size=plan.query_size,
        model=plan.model,
        **report.made_with(),
    )


def _pool_runs(
    plan: Plan, name: str, dataset: datasets.Dataset, folder: Path, executor: Any, progress: Any
) -> list[dict[str, Any]]:
    """Those of one pool."""
    arrays = datasets.scaled(dataset)
    submits: dict[str, Callable] = {}
    with ExitStack() as stack:
        for head in plan.heads:
            submits[head] = stack.enter_context(
                workers.fitting(
                    workers.Setting(dataset.num_classes, head=head),
                    cells.folder(folder / head, dict(head=head)),
                    *arrays,
                    executor=executor,
                )
            )
        found = []
        for strategy, seed, bought in _bought(plan, name, dataset, arrays[0][0], folder, progress):
            rows = np.concatenate([np.array(part, np.int64) for part in bought])
            for end in np.cumsum([len(part) for part in bought]):
                jobs = {head: submit(rows[:end]) for head, submit in submits.items()}
                found.append((strategy, seed, rows[:end], jobs))
        progress.set_postfix_str("fitting heads")
        return [
            dict(pool=name, strategy=strategy, rule="none", budget=len(rows), seed=seed)
            | summary.measure(
                rows,
                dataset.labels[rows],
                np.full(len(rows), -1),
                num_classes=dataset.num_classes,
            )
            | {
                f"{metric} {head}": job.result()[metric]
                for head, job in jobs.items()
                for metric in ("accuracy", "macro_f1")
            }
            for strategy, seed, rows, jobs in found
        ]


def _bought(
    plan: Plan,
    name: str,
    dataset: datasets.Dataset,
    features: np.ndarray,
    folder: Path,
    progress: Any,
) -> Iterator[tuple[str, int, list[list[int]]]]:
    """Every strategy and seed with the rows of the whole pool that it buys, round by round; its
    labelled start first."""
    drawn = draws.drawn(datasets.pool(dataset), seed=plan.seed, runs=plan.seeds)
    for strategy, asks in plan.strategies.items():
        for seed, draw in enumerate(drawn):
            progress.set_postfix_str(f"{name}: {strategy}")
            cell = f"rounds-{buying.cell_name(strategy)}-{seed}"
            kept = cells.read(folder, cell)
            if kept is None:
                kept = buy(plan, asks, dataset, features, draw)
                cells.write(folder, cell, kept)
            progress.update()
            yield strategy, seed, kept


def buy(
    plan: Plan,
    asks: balal.Strategy,
    dataset: datasets.Dataset,
    features: np.ndarray,
    draw: draws.Draw,
) -> list[list[int]]:
    """The rows of the whole pool that one run buys, round by round; its labelled start first.

    features: [N, D] of the whole pool, what the target model is fitted to.
    """
    labels, num_classes = dataset.labels[draw.rows], dataset.num_classes
    start_key, key = jax.random.split(draw.key)
    start = np.zeros(0, np.int64)
    if plan.start:
        picked = balal.one_shot(
            balal.strategy("random"),
            draw.pool,
            labels,
            budget=plan.start,
            num_classes=num_classes,
            key=start_key,
        )
        start = np.asarray(picked.indices)
    bought = target_models.bought(
        asks,
        draw,
        labels,
        features[draw.rows],
        sizes=plan.sizes,
        first=None if plan.first is None else balal.strategy(plan.first),
        start=start,
        num_classes=num_classes,
        key=key,
        model=plan.model,
        query_size=plan.query_size,
    )
    return [draw.rows[part].tolist() for part in [*([start] if plan.start else []), *bought]]
