"""balal says which images of an imbalanced pool a person should label next."""

from balal import (
    balancing,
    bounds,
    chance,
    check,
    cost,
    coverage,
    diversity,
    expected,
    imbalance,
    loop,
    metrics,
    neighbours,
    posterior,
    record,
    sharding,
    strategies,
    ties,
    types,
    uncertainty,
)
from balal.cost import Cost, estimate
from balal.coverage import Centers, k_center
from balal.diversity import diversify
from balal.files import load, save
from balal.loop import Result, ask, grow, init, one_shot, pool, simulate, tell
from balal.strategies import Balanced, Ordered, Posterior, Strategy, strategy
from balal.types import Labelled, Pool, Scores, State
from balal.uncertainty import entropy, least_confidence, margin, score

__version__ = "0.1.0"
