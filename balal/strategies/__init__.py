"""Strategies: what a strategy is (`base`), one published method per file, and all of them by name
(`registry`)."""

from balal.strategies.badge import Badge
from balal.strategies.balanced import Balanced
from balal.strategies.bald import Bald
from balal.strategies.base import (
    Names,
    Order,
    Ordered,
    Strategy,
    asks_target_model,
    describe,
    member,
    prepared,
)
from balal.strategies.cbal import Cbal, CbalCoreSet
from balal.strategies.cluster_margin import ClusterMargin
from balal.strategies.core_set import CoreSet
from balal.strategies.direct import Direct
from balal.strategies.galaxy import Galaxy
from balal.strategies.k_means_plus_plus import KMeansPlusPlus
from balal.strategies.max_herding import MaxHerding
from balal.strategies.planned import Plan, Planned
from balal.strategies.posterior import Posterior
from balal.strategies.posterior_0_1 import Posterior01
from balal.strategies.prob_cover import ProbCover
from balal.strategies.refine import Refine
from balal.strategies.registry import RULES, STRATEGIES, names, strategy
from balal.strategies.similar import Similar
from balal.strategies.tail_first import TailFirst
from balal.strategies.tailor import Tailor
from balal.strategies.typiclust import TypiClust
from balal.strategies.u_herding import UHerding
from balal.strategies.uncertainty import Random, Uncertainty

__all__ = [
    "RULES",
    "STRATEGIES",
    "Badge",
    "Balanced",
    "Bald",
    "Cbal",
    "CbalCoreSet",
    "ClusterMargin",
    "CoreSet",
    "Direct",
    "Galaxy",
    "KMeansPlusPlus",
    "MaxHerding",
    "Names",
    "Order",
    "Ordered",
    "Plan",
    "Planned",
    "Posterior",
    "Posterior01",
    "ProbCover",
    "Random",
    "Refine",
    "Similar",
    "Strategy",
    "TailFirst",
    "Tailor",
    "TypiClust",
    "UHerding",
    "Uncertainty",
    "asks_target_model",
    "describe",
    "member",
    "names",
    "prepared",
    "strategy",
]
