"""Everything that can be compared, by name, and the labels that each buys in one trial.

A name is that of a strategy, which then ranks or asks by itself; `rounds:` before it has a target
model refitted as the labels come, whose predictions take the place of the source model's scores.
Strategies that ask a target model always run in rounds. `oracle_balanced` peeks. Names such as
`skactiveml:TypiClust` are other people's programs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import balal
from balal.strategies import asks_target_model, member
from experiments.common import buying, oracles, peers, regimes, target_models

ROUNDS, ORACLE = "rounds:", "oracle_balanced"
# In one shot or by their own answers; in rounds; peeking.
DEFAULT = (
    *("random", "posterior", "max_herding", "typiclust", "prob_cover", "core_set"),
    *("k_means_plus_plus", "ent_inv_div", "ent_inv_div+balance", "random+balance"),
    *("rounds:u_herding", "rounds:ms", "rounds:ent", "rounds:lc", "ms_balanced", "badge"),
    *("rounds:cluster_margin", "bald", "tail_first", "galaxy", "direct", "tailor"),
    *("rounds:similar", "rounds:refine", "cbal", ORACLE),
)
# The target model is refitted when there are so many labels a class.
_MARKS = (
    *(0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8),
    *range(10, 21, 2),
)
_BINARY_STEP = 10
# What is asked before there is a target model; for UHerding, what it is where nothing is known.
_FIRST = {"u_herding": "max_herding"}


@dataclass(frozen=True)
class Method:
    """What is compared: a strategy, by itself or in rounds; without one, a peer or the oracle."""

    name: str
    strategy: balal.Strategy | None
    rounds: bool

    @property
    def needs(self) -> tuple[str, ...]:
        """What the pool must have before anything is labelled."""
        if self.strategy is None:
            return ("features",)
        if self.rounds:
            return tuple(need for need in self.strategy.needs if need == "features")
        return buying.without_source(self.strategy, 2).needs


def named(name: str) -> Method:
    """The method of that name. Raises ValueError with the nearest names."""
    if name == ORACLE or name in peers.PEERS:
        return Method(name, None, name in peers.NEED_MODEL)
    strategy = balal.strategy(name.removeprefix(ROUNDS))
    return Method(name, strategy, name.startswith(ROUNDS) or asks_target_model(strategy))


def schedule(budgets: Sequence[int], num_classes: int) -> list[int]:
    """The numbers of labels after which the target model is refitted: the budgets, and steps that
    grow with the labels; on two classes every ten labels.

    >>> schedule([20, 45], 2)
    [10, 20, 30, 40, 45]
    >>> schedule([10, 20], 10)
    [2, 5, 8, 10, 15, 20]
    """
    if num_classes == 2:
        marks = list(range(_BINARY_STEP, budgets[-1], _BINARY_STEP))
    else:
        marks = [round(num_classes * mark) for mark in _MARKS]
    return sorted({mark for mark in marks if 0 < mark < budgets[-1]} | set(budgets))


def buy(
    method: Method,
    trial: regimes.Trial,
    features: np.ndarray,
    *,
    budgets: Sequence[int],
    most: int,
) -> dict[int, np.ndarray]:
    """The rows of the draw that are bought with each budget, without those labelled at the start.

    Args:
      features: [N, D] of the draw, scaled for heads.
      budgets: in ascending order.
      most: room for this many labels: one compiled program serves all budgets up to it.
    """
    if method.name == ORACLE:
        return _consult(trial, budgets)
    if method.strategy is None:
        return _by_peer(method, trial, features, budgets)
    if method.rounds:
        return _in_rounds(method, trial, features, budgets)
    return _by_itself(method.strategy, trial, budgets, most)


def _by_itself(
    strategy: balal.Strategy, trial: regimes.Trial, budgets: Sequence[int], most: int
) -> dict[int, np.ndarray]:
    # As its authors have it, without a source model's classes.
    strategy = buying.without_source(strategy, trial.num_classes)
    pool, start = trial.draw.prepared_for(strategy), trial.start

    def bought(budget: int) -> np.ndarray:
        result = buying.one_shot(
            strategy,
            pool,
            trial.told,
            budget=budget,
            num_classes=trial.num_classes,
            key=trial.draw.key,
            capacity=most,
            labelled=(start, trial.told[start]) if len(start) else None,
        )
        return np.asarray(result.indices)[:budget]

    if member(strategy, "nested"):
        rows = bought(budgets[-1])
        return {budget: rows[:budget] for budget in budgets}
    return {budget: bought(budget) for budget in budgets}


def _in_rounds(
    method: Method, trial: regimes.Trial, features: np.ndarray, budgets: Sequence[int]
) -> dict[int, np.ndarray]:
    strategy = method.strategy
    assert strategy is not None
    bought = target_models.bought(
        strategy,
        trial.draw,
        trial.told,
        features,
        sizes=np.diff([0, *schedule(budgets, trial.num_classes)]).tolist(),
        first=balal.strategy(_FIRST.get(method.name.removeprefix(ROUNDS), "random")),
        start=trial.start,
        num_classes=trial.num_classes,
        key=trial.draw.key,
    )
    rows = np.concatenate(bought)
    return {budget: rows[:budget] for budget in budgets}


def _by_peer(
    method: Method, trial: regimes.Trial, features: np.ndarray, budgets: Sequence[int]
) -> dict[int, np.ndarray]:
    """Other people's programs, in rounds if they go by the target model."""
    rows = np.asarray(trial.draw.pool.features, np.float32)
    if method.name in peers.UNIT_ROWS:
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    seed = int(np.asarray(jax.random.bits(trial.draw.key)))

    def picked(labelled: np.ndarray, budget: int, probabilities: Any = None) -> np.ndarray:
        options: dict[str, Any] = dict(probabilities=probabilities, num_classes=trial.num_classes)
        return peers.pick(method.name, rows, labelled, budget, seed, **options)

    if method.name in peers.PLANNED:
        return {budget: picked(trial.start, budget) for budget in budgets}
    if not method.rounds:
        bought = picked(trial.start, budgets[-1])
        return {budget: bought[:budget] for budget in budgets}
    fit, predict = target_models.target_model(
        balal.strategy("ms"), features, num_classes=trial.num_classes
    )
    labelled, model = trial.start, None
    if len(labelled):
        model = fit(labelled, trial.told[labelled], None)
    for size in np.diff([0, *schedule(budgets, trial.num_classes)]).tolist():
        if model is None:
            free = np.setdiff1d(np.arange(len(rows)), labelled)
            new = np.random.default_rng((seed, len(labelled))).choice(free, size, replace=False)
        else:
            new = picked(labelled, size, np.asarray(jax.nn.softmax(predict(model), axis=1)))
        labelled = np.concatenate([labelled, new])
        model = fit(labelled, trial.told[labelled], model)
    bought = labelled[len(trial.start) :]
    return {budget: bought[:budget] for budget in budgets}


def _consult(trial: regimes.Trial, budgets: Sequence[int]) -> dict[int, np.ndarray]:
    """Random rows that fill up the classes with the fewest labels. Peeks."""
    return {
        budget: oracles.balanced(
            trial.draw.oracle_key,
            trial.labels,
            np.setdiff1d(np.arange(len(trial.labels)), trial.start),
            counts=np.bincount(trial.labels[trial.start], minlength=trial.num_classes),
            budget=budget,
        )
        for budget in budgets
    }


def cell_name(method: Method, budgets: Sequence[int]) -> str:
    """A method's name as part of a file name. The schedule of rounds follows the budgets, so
    those are in it."""
    own = method.name.replace(":", "-")
    if method.strategy is not None:
        own = buying.cell_name(method.name.removeprefix(ROUNDS))
    if not method.rounds:
        return own
    digest = hashlib.sha256(",".join(map(str, budgets)).encode()).hexdigest()[:8]
    return f"rounds-{own}-{digest}"
