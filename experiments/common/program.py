"""Running an experiment from the command line: help with examples, one sentence and exit code 2 for
what the user got wrong."""

import difflib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from absl import app, flags, logging

from balal import machine
from balal.cli import command_line
from experiments.common import classifiers, statistics

Number = TypeVar("Number", int, float)


def run(
    main: Callable[[flags.FlagValues], None], define_flags: Callable[[flags.FlagValues], None]
) -> None:
    """Parses the flags and calls `main` with their values; leaves with exit code 2 and one sentence
    on stderr for a wrong flag, file or array.

    `balal.cli.command_line.user_errors` decides what the user can put right.
    """
    command_line.define_flags(flags.FLAGS)
    define_flags(flags.FLAGS)
    # Only `balal pick` can use images without labels.
    with command_line.user_errors(flags.FLAGS, instead=dict(labelled="balal pick")):
        app.run(lambda _: main(flags.FLAGS), flags_parser=_parse)


def define_output_flags(flag_values: flags.FlagValues, *, out: str) -> None:
    """--out, with `out` for its default, and --fresh."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    flags.DEFINE_string("out", out, "Folder for everything that is written.", **own)
    flags.DEFINE_bool("fresh", False, "Delete the finished cells in --out first.", **own)


def define_paired_flags(flag_values: flags.FlagValues, *, seeds: int) -> None:
    """--heads, --seeds, with `seeds` for its default, and --seed: of paired runs that are judged by
    heads."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    flags.DEFINE_list(
        "heads",
        ["svm", "logistic+logit_adjustment"],
        f"What is trained on the labels bought: some of {', '.join(classifiers.COMPARED)}.",
        **own,
    )
    flags.DEFINE_integer(
        "seeds", seeds, "Paired runs.", lower_bound=2, upper_bound=statistics.MOST_RUNS, **own
    )
    flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0, **own)


def define_workers_flag(flag_values: flags.FlagValues) -> None:
    """--workers; `processes` reads it."""
    flags.DEFINE_integer(
        "workers",
        None,
        "Processes that fit heads beside the selection. Default: one a core.",
        lower_bound=0,
        flag_values=flag_values,
    )


def processes(flag_values: flags.FlagValues) -> int:
    """How many processes --workers asks for."""
    return machine.cores() if flag_values.workers is None else flag_values.workers


def values(flag_values: flags.FlagValues, quick: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all flags; with --quick those of `quick` wherever the user named no other."""
    found = flag_values.flag_values_dict()
    if found["quick"]:
        found |= {
            flag: value for flag, value in quick.items() if flag_values[flag].using_default_value
        }
    return found


def listed(flag: str, values: Sequence[str], known: Collection[str]) -> list[str]:
    """The values of a list flag, all of them known and none repeated; `all` stands for everything
    known."""
    if list(values) == ["all"]:
        return list(known)
    for value in values:
        if value not in known:
            near = difflib.get_close_matches(value, list(known), n=3, cutoff=0.4) or known
            raise ValueError(f"--{flag} does not know {value!r}; the nearest are {', '.join(near)}")
    if not values or len(set(values)) < len(values):
        raise ValueError(
            f"--{flag} must name at least one, and each once, got {','.join(values)!r}"
        )
    return list(values)


def numbers(flag: str, values: Sequence[str], kind: Callable[[str], Number]) -> list[Number]:
    """The values of a list flag, as positive numbers in ascending order."""
    try:
        numbers = sorted({kind(value) for value in values})
    except ValueError:
        numbers = []
    if not numbers or not 0 < numbers[0] <= numbers[-1] < float("inf"):
        raise ValueError(
            f"--{flag} takes positive numbers with commas between them, got {','.join(values)!r}"
        )
    return numbers


def _parse(arguments: Sequence[str]) -> list[str]:
    if command_line.asks_for_help(arguments):
        print(sys.modules["__main__"].__doc__)
        print(flags.FLAGS.main_module_help())
        for module in sorted(flags.FLAGS.flags_by_module_dict()):
            if module.startswith(("balal.cli", "experiments.common")):
                print(flags.FLAGS.module_help(module))
        sys.exit(0)
    rest = flags.FLAGS(arguments)
    if flags.FLAGS["verbosity"].using_default_value:
        # At absl's default, JAX's search for accelerators would show on the screen.
        logging.set_verbosity(logging.WARNING)
    if rest[1:]:
        raise flags.Error(
            f"the argument {rest[1]!r} belongs to no flag: write lists with commas and without "
            f"spaces"
        )
    return rest
