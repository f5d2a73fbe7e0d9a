"""Running an experiment from the command line: help that teaches, one sentence and exit code 2 for
what the user got wrong."""

import difflib
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

from absl import app, flags, logging

from balal.cli import running

running.define_flags(flags.FLAGS)


def run(main: Callable[[list[str]], None], own: flags.FlagValues = flags.FLAGS) -> None:
    """Parses the flags and calls `main(arguments)`; leaves with exit code 2 and one sentence on
    stderr for a wrong flag, file or array.

    own: the flags of the program, where it keeps them apart so that two programs with a flag of one
    name can be imported together.

    What is the user's to put right is decided by `balal.cli.running.user_errors`.
    """
    if own is not flags.FLAGS:
        flags.FLAGS.append_flag_values(own)
    # Only `balal pick` has a use for images without labels.
    with running.user_errors(flags.FLAGS, instead=dict(labelled="balal pick")):
        app.run(main, flags_parser=lambda arguments: _parse(arguments, own))


def listed(flag: str, values: Sequence[str], known: Collection[str]) -> list[str]:
    """The values of a list flag, all of them known and none twice; `all` stands for everything that
    is known."""
    if list(values) == ["all"]:
        return list(known)
    for value in values:
        if value not in known:
            near = difflib.get_close_matches(value, list(known), n=3, cutoff=0.4) or known
            raise ValueError(f"--{flag} knows no {value!r}; the nearest are {', '.join(near)}")
    if not values or len(set(values)) < len(values):
        raise ValueError(f"--{flag} names at least one, and each once, got {','.join(values)!r}")
    return list(values)


def numbers(flag: str, values: Sequence[str], kind: Callable[[str], Any]) -> list[Any]:
    """The values of a list flag, as rising positive numbers."""
    try:
        numbers = sorted({kind(value) for value in values})
    except ValueError:
        numbers = []
    if not numbers or not 0 < numbers[0] <= numbers[-1] < float("inf"):
        raise ValueError(
            f"--{flag} takes positive numbers with commas between them, got {','.join(values)!r}"
        )
    return numbers


def _parse(arguments: Sequence[str], own: flags.FlagValues) -> list[str]:
    if running.asks_for_help(arguments):
        print(sys.modules["__main__"].__doc__)
        print(own.main_module_help())
        for module in sorted(flags.FLAGS.flags_by_module_dict()):
            if module.startswith("balal.cli"):
                print(flags.FLAGS.module_help(module))
        sys.exit(0)
    rest = flags.FLAGS(arguments)
    own.mark_as_parsed()
    if flags.FLAGS["verbosity"].using_default_value:
        # At absl's default, JAX's search for accelerators would be on the screen.
        logging.set_verbosity(logging.WARNING)
    if rest[1:]:
        raise flags.Error(
            f"there is an argument without a flag, {rest[1]!r}; lists are written with commas and "
            f"without spaces"
        )
    return rest
