"""How much memory and work would a selection take? Nothing is allocated to find out.

    balal estimate --rows=1000000 --features=512 --classes=1000 --budget=1000
    balal estimate --rows=17168 --features=1280 --budget=2000 --strategies=core_set,posterior
    balal estimate --rows=1000000 --source_classes=1000 --budget=5000 --strategies=ent_inv_div
    balal estimate --rows=100000 --features=512 --size=50

Prints a line for each strategy: the peak memory of its process beside that of Python and JAX
themselves, its operations, and whether it fits into the memory of this machine or its accelerator.
With --size it is what `balal.init` and `balal.ask` take, as in `balal pick`, otherwise a whole
simulation. Each line takes as long as compiling the strategy, a few seconds.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

import balal
from balal import machine
from balal.cli import output, progress


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the command."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    flags.DEFINE_integer("rows", None, "Rows of the pool.", lower_bound=1, **own)
    flags.DEFINE_integer(
        "features", 0, "Features of each row; 0: none, only scores.", lower_bound=0, **own
    )
    flags.DEFINE_integer(
        "source_classes", 1000, "Classes of the source model; 0: no scores.", lower_bound=0, **own
    )
    flags.DEFINE_integer("classes", 100, "Classes that a person assigns.", lower_bound=1, **own)
    flags.DEFINE_integer("budget", 1000, "Labels to be bought.", lower_bound=1, **own)
    flags.DEFINE_integer(
        "size", None, "Labels asked for at once. Default: a simulation.", lower_bound=1, **own
    )
    flags.DEFINE_list(
        "strategies",
        None,
        "Names. Default: those in the README that need no more than these features and scores.",
        **own,
    )
    flags.DEFINE_enum(
        "dtype", "float32", ["float32", "bfloat16", "float16"], "Dtype of the features.", **own
    )


# The strategies that the README recommends.
_STRATEGIES = ("random", "ent_inv_div", "core_set", "ent_inv_div+balance", "posterior")
# The flag above 0 by which a pool has what strategies need.
_GIVEN_BY = dict(features="features", scores="source_classes", logits="source_classes")


def main(flag_values: flags.FlagValues, words: Sequence[str]) -> None:
    """Runs the command. words: the arguments that are not flags."""
    if words:
        raise ValueError(
            f"the argument {words[0]!r} belongs to no flag: write each value as --flag=value"
        )
    if flag_values.rows is None:
        raise ValueError("--rows is missing: say how many rows the pool has")
    lacking = {need for need, flag in _GIVEN_BY.items() if not flag_values[flag].value}
    needs = {name: balal.strategy(name).needs for name in flag_values.strategies or _STRATEGIES}
    names = [name for name in needs if not lacking & set(needs[name])]
    for name in flag_values.strategies or []:
        for need in lacking & set(needs[name]):
            raise ValueError(f"{name} needs {need}: pass --{_GIVEN_BY[need]} above 0")
    costs = {}
    with progress.bar("compiling", unit="strategy", leave=False) as tell:
        for name in names:
            tell(len(costs), len(names))
            costs[name] = balal.estimate(
                balal.strategy(name),
                flag_values.rows,
                flag_values.features,
                flag_values.source_classes,
                flag_values.classes,
                flag_values.budget,
                size=flag_values.size,
                dtype=flag_values.dtype,
            )
    limit = machine.device_memory()
    there_is = "unknown" if limit is None else machine.written(limit)
    print(
        f"{flag_values.rows:,} rows, {flag_values.features:,} features, "
        f"{flag_values.source_classes:,} source classes, {flag_values.classes:,} classes, a budget "
        f"of {flag_values.budget:,}. Device: {machine.devices()}. Memory: {there_is}.\n"
    )
    print(table(costs, limit=limit))


def table(costs: dict[str, balal.cost.Cost], *, limit: int | None) -> str:
    """A line for each strategy.

    >>> print(table({"random": balal.cost.Cost(2_000_000_000, 0.0)}, limit=10**9))
    | strategy | peak memory | operations | fits |
    |:---------|------------:|-----------:|-----:|
    | random   |     2.00 GB |          0 |   no |
    """
    rows = [
        [
            name,
            machine.written(cost.bytes),
            "not known" if cost.flops is None else f"{cost.flops:.2g}",
            "?" if limit is None else "yes" if cost.bytes <= limit else "no",
        ]
        for name, cost in costs.items()
    ]
    return output.markdown(["strategy", "peak memory", "operations", "fits"], rows)
