"""What all programs have in common: help with examples, and one sentence and exit code 2 for what
the user got wrong."""

import io
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from absl import flags

from balal import machine
from balal.cli import signals
from balal.wording import printable


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flag that every program has."""
    flags.DEFINE_bool(
        "traceback",
        False,
        "Show where in the code an error arose, not only what it says.",
        flag_values=flag_values,
    )


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether one of the arguments is `--help`, in any spelling."""
    return any(argument in ("-h", "--h", "-help", "--help") for argument in arguments)


def help_text(description: str | None, flag_values: flags.FlagValues) -> str:
    """What `--help` prints: a program's description, with examples, and its flags.

    The program's own flags come first, then those that it shares with others.
    """
    modules = list(flag_values.flags_by_module_dict())
    return "\n".join(
        [str(description).strip(), *(flag_values.module_help(name) for name in reversed(modules))]
    )


def parse(flag_values: flags.FlagValues, arguments: Sequence[str], *, program: str) -> list[str]:
    """Gives the flags their values; returns the arguments that are not flags, wherever they are."""
    flag_values.set_gnu_getopt(True)
    return flag_values([program, *arguments])[1:]


@contextmanager
def user_errors(
    flag_values: flags.FlagValues, *, instead: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Ends the process with exit code 2 and one sentence where the block raises what the user can
    put right: a `ValueError`, an `OSError`, a package that is not installed, or too little memory.

    Args:
      flag_values: of the program.
      instead: what the program offers for options of the library that are not among its flags.

    Anything else is a bug and shows its traceback, as everything does under `--traceback`.
    """
    # Names of files may be in any bytes, and terminals in any encoding.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with signals.heeded():
            yield
            sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads on, as after `| head`. Otherwise Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt as stopped:  # Right before or after the block is heeded.
        print(signals.STOPPED, file=sys.stderr)
        sys.exit(128 + (stopped.args or (signal.SIGINT,))[0])
    except (
        ValueError,
        OSError,
        ModuleNotFoundError,
        MemoryError,
        RuntimeError,
        flags.Error,
    ) as error:
        exhausted = machine.out_of_memory(error)
        if flag_values.is_parsed() and flag_values.traceback:
            raise
        if exhausted:
            error = _too_little_memory(error)
        elif isinstance(error, RuntimeError):
            raise
        here = {name: f"--{name}" for name in flag_values}
        said = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            said = f"{os.fsdecode(error.filename)} cannot be read or written: {error.strerror}"
        sentence = with_flags(" ".join(said.split()), {**(instead or {}), **here})
        print(f"error: {printable(sentence)}", file=sys.stderr)
        sys.exit(2)


def _too_little_memory(error: BaseException) -> BaseException:
    if error.__cause__ is not None and machine.out_of_memory(error.__cause__):
        # The library has said already what would fit.
        return error
    free = machine.available()
    there_is = "" if free is None else f"; {machine.written(free)} are free now"
    return MemoryError(
        f"out of memory ({machine.details(error)}){there_is}: use fewer rows, "
        f"fewer features or a smaller budget, or a strategy that needs less (`balal estimate` "
        f"says how much each needs)"
    )


def with_flags(sentence: str, here: Mapping[str, str]) -> str:
    """A message of the library, and after it the program's flags for the options that it names.

    >>> with_flags("leave them out with skip_damaged=True", {"skip_damaged": "--skip_damaged"})
    'leave them out with skip_damaged=True (here: --skip_damaged)'
    """
    options = re.findall(r"(?<![\w/-])([a-z]\w*)=(\w*)", sentence)
    written = [_written(here[name], value) for name, value in options if name in here]
    return f"{sentence} (here: {', '.join(dict.fromkeys(written))})" if written else sentence


def _written(flag: str, value: str) -> str:
    if not flag.startswith("--") or value in ("", "True"):
        return flag
    return flag.replace("--", "--no", 1) if value == "False" else f"{flag}={value}"
