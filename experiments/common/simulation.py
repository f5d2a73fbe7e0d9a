"""One simulated run, with as few compiled programs as there can be."""

from dataclasses import replace

import jax
import jax.numpy as jnp

import balal


def one_shot(
    strategy: balal.Strategy,
    pool: balal.Pool,
    labels: jax.Array,
    *,
    budget: int,
    num_classes: int,
    key: jax.Array,
    capacity: int,
) -> balal.Result:
    """What `balal.one_shot` buys.

    The posterior follows its first strategy for a few labels: these are bought alone, by a program
    that is there already, and are the labelled start of the rest, so that one program serves all
    first strategies.
    """
    if (
        not isinstance(strategy, balal.Posterior)
        or not isinstance(strategy.first, balal.Ordered)
        or budget <= strategy.start
    ):
        return balal.one_shot(
            strategy,
            pool,
            labels,
            budget=budget,
            num_classes=num_classes,
            key=key,
            capacity=capacity,
        )
    begun = balal.one_shot(
        strategy.first,
        pool,
        labels,
        budget=strategy.start,
        num_classes=num_classes,
        key=key,
        capacity=capacity,
    )
    start = begun.indices[: strategy.start], begun.labels[: strategy.start]
    rest = balal.simulate(
        replace(strategy, first=None),
        pool,
        labels,
        budget=budget - strategy.start,
        num_classes=num_classes,
        key=key,
        labelled=start,
        capacity=capacity - strategy.start,
    )
    columns = dict(indices=start[0], labels=start[1], wanted=begun.wanted[: strategy.start])
    return replace(
        rest,
        **{
            name: jnp.concatenate([column, getattr(rest, name)]) for name, column in columns.items()
        },
    )
