"""balal says which images of an imbalanced pool a person should label next."""

from balal import (
    check,
    cost,
    difficulty,
    imbalance,
    kernels,
    label_errors,
    labelled_set,
    loop,
    memory_errors,
    metrics,
    pools,
    preparation,
    random_sampling,
    retraining,
    sharding,
    simulation,
    state_file,
    strategies,
    transfer,
    types,
)
from balal.cost import Cost, estimate
from balal.difficulty import GradientVariance, gradient_variance
from balal.kernels.diversity import diversify
from balal.kernels.k_center import Centers, k_center
from balal.kernels.uncertainty import entropy, least_confidence, margin, score
from balal.label_errors import Suspects, suspects
from balal.loop import extend, grow, reasons, remap, restore, withdraw
from balal.pools import pool
from balal.preparation import prepare
from balal.retraining import Round, rounds
from balal.simulation import Result
from balal.state_file import load, save
from balal.strategies import Balanced, Ordered, Posterior, Strategy, strategy
from balal.transfer import Transferability, transferability
from balal.types import Labelled, Pick, Pool, Prepared, Scores, State, available

# What may run out of memory says what would fit.
init = memory_errors.told(loop.init)
ask = memory_errors.told(loop.ask)
tell = memory_errors.told(loop.tell)
simulate = memory_errors.told(simulation.simulate)
one_shot = memory_errors.told(simulation.one_shot)

__version__ = "0.1.0"

__all__ = [
    "Balanced",
    "Centers",
    "Cost",
    "GradientVariance",
    "Labelled",
    "Ordered",
    "Pick",
    "Pool",
    "Posterior",
    "Prepared",
    "Result",
    "Round",
    "Scores",
    "State",
    "Strategy",
    "Suspects",
    "Transferability",
    "__version__",
    "ask",
    "available",
    "check",
    "cost",
    "difficulty",
    "diversify",
    "entropy",
    "estimate",
    "extend",
    "gradient_variance",
    "grow",
    "imbalance",
    "init",
    "k_center",
    "kernels",
    "label_errors",
    "labelled_set",
    "least_confidence",
    "load",
    "loop",
    "margin",
    "memory_errors",
    "metrics",
    "one_shot",
    "pool",
    "pools",
    "preparation",
    "prepare",
    "random_sampling",
    "reasons",
    "remap",
    "restore",
    "retraining",
    "rounds",
    "save",
    "score",
    "sharding",
    "simulate",
    "simulation",
    "state_file",
    "strategies",
    "strategy",
    "suspects",
    "tell",
    "transfer",
    "transferability",
    "types",
    "withdraw",
]
