"""The target models that strategies are asked with, in rounds: logistic regression on the features,
warm started, or an ensemble of such heads for the strategies that want one."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import balal
from balal.heads import logistic, rebalance
from balal.strategies.bald import Bald
from balal.strategies.base import parts
from experiments.common import buying, draws

# `fit` and `predict` as `balal.rounds` takes them.
Model = tuple[Callable[[np.ndarray, np.ndarray, Any], Any], Callable[[Any], np.ndarray]]
MODELS = ("logistic", "balanced_softmax")
MEMBERS = 5


def target_model(
    strategy: balal.Strategy,
    features: np.ndarray,
    *,
    num_classes: int,
    model: str = "logistic",
    seed: int = 0,
) -> Model:
    """`fit` and `predict` of a head on `features` [N, D], or of an ensemble of five for BALD and
    the variation ratio, which differ in the weights of their rows (Bayesian bootstrap).

    There is no model as long as all labels are of one class: `fit` gives None, and strategies go on
    as they began.
    """
    rng = np.random.default_rng(seed)

    def fit_one(indices, labels, before, weights):
        counts = np.bincount(labels, minlength=num_classes)
        adjustment = rebalance.adjustment(counts) if model == "balanced_softmax" else None
        return logistic.fit(
            features[indices],
            labels,
            num_classes=num_classes,
            weights=weights,
            adjustment=adjustment,
            before=before,
        )

    def fit(indices: np.ndarray, labels: np.ndarray, before: Any) -> Any:
        if len(np.unique(labels)) < 2:
            return None
        return fit_one(indices, labels, before, None)

    def fit_members(indices: np.ndarray, labels: np.ndarray, before: Any) -> Any:
        if len(np.unique(labels)) < 2:
            return None
        return [
            fit_one(indices, labels, head, rng.exponential(size=len(labels)).astype(np.float32))
            for head in before or [None] * MEMBERS
        ]

    def predict(head: logistic.Head) -> np.ndarray:
        return logistic.class_logits(head, features)

    def predict_members(heads: list[logistic.Head]) -> np.ndarray:
        return np.stack([predict(head) for head in heads], axis=1)

    if any(isinstance(part, Bald) for part in parts(strategy)):
        return fit_members, predict_members
    return fit, predict


def bought(
    strategy: balal.Strategy,
    draw: draws.Draw,
    told: np.ndarray,
    features: np.ndarray,
    *,
    sizes: Sequence[int],
    first: balal.Strategy | None,
    start: np.ndarray,
    num_classes: int,
    key: jax.Array,
    model: str = "logistic",
    query_size: int | None = 1,
) -> list[np.ndarray]:
    """The rows of a draw that a strategy buys, round by round, as `balal.rounds` has it.

    Args:
      told: int [N], what the annotator says of the rows of the draw.
      features: [N, D] of the draw, scaled for heads.
      first: what is asked before there is a target model (None: the strategy itself, or random rows
        if it goes by scores or logits).
      start: rows of the draw that are labelled before the first round.
    """
    # As its authors have it, with clusters and not the classes of this target model.
    strategy = buying.without_source(strategy, num_classes)
    fit, predict = target_model(strategy, features, num_classes=num_classes, model=model)
    if first is None:
        asks_model = {"scores", "logits"} & set(strategy.needs)
        first = balal.strategy("random") if asks_model else strategy
    steps = balal.rounds(
        strategy,
        draw.prepared_for(strategy),
        told,
        fit=fit,
        predict=predict,
        sizes=sizes,
        num_classes=num_classes,
        key=key,
        first=first,
        labelled=(start, told[start]) if len(start) else None,
        query_size=query_size,
    )
    return [step.indices for step in steps if len(step.indices)]
