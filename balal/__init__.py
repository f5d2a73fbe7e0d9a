"""balal says which images of an imbalanced pool a person should label next."""

from balal import (
    check,
    cost,
    imbalance,
    kernels,
    labelled_set,
    loop,
    metrics,
    random_sampling,
    sharding,
    strategies,
    types,
)
from balal.cost import Cost, estimate
from balal.kernels.diversity import diversify
from balal.kernels.k_center import Centers, k_center
from balal.kernels.uncertainty import entropy, least_confidence, margin, score
from balal.loop import Result, ask, grow, init, one_shot, pool, simulate, tell
from balal.state_file import load, save
from balal.strategies import Balanced, Ordered, Posterior, Strategy, strategy
from balal.types import Labelled, Pool, Scores, State

__version__ = "0.1.0"

__all__ = [
    "Balanced",
    "Centers",
    "Cost",
    "Labelled",
    "Ordered",
    "Pool",
    "Posterior",
    "Result",
    "Scores",
    "State",
    "Strategy",
    "__version__",
    "ask",
    "check",
    "cost",
    "diversify",
    "entropy",
    "estimate",
    "grow",
    "imbalance",
    "init",
    "k_center",
    "kernels",
    "labelled_set",
    "least_confidence",
    "load",
    "loop",
    "margin",
    "metrics",
    "one_shot",
    "pool",
    "random_sampling",
    "save",
    "score",
    "sharding",
    "simulate",
    "strategies",
    "strategy",
    "tell",
    "types",
]
