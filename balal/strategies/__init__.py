"""Strategies: what a strategy is (`base`), one published method per file, and all of them by name
(`registry`)."""

from balal.strategies.balanced import Balanced
from balal.strategies.base import Names, Order, Ordered, Strategy, describe, member, prepared
from balal.strategies.core_set import CoreSet
from balal.strategies.planned import Plan, Planned
from balal.strategies.posterior import Posterior
from balal.strategies.registry import RULES, STRATEGIES, names, strategy
from balal.strategies.uncertainty import Random, Uncertainty

__all__ = [
    "RULES",
    "STRATEGIES",
    "Balanced",
    "CoreSet",
    "Names",
    "Order",
    "Ordered",
    "Plan",
    "Planned",
    "Posterior",
    "Random",
    "Strategy",
    "Uncertainty",
    "describe",
    "member",
    "names",
    "prepared",
    "strategy",
]
