"""balal says which images of a large, imbalanced, unlabelled pool a person should label next.

    balal pick photos/ --budget=50                           which photographs to label first
    balal pick --features=f.npy --logits=l.npy --budget=50   the same, from features of your own
    balal extract photos/ --out=features/photos              save what a network sees in a folder
    balal estimate --rows=100000 --features=512              how much memory a selection takes
    balal doctor                                             what is installed, what is missing

`balal <command> --help` shows more examples and all flags of a command, `balal --version` the
version.
"""

import difflib
import sys
from collections.abc import Sequence

from absl import flags

import balal
from balal.cli import command_line, doctor, estimate, extract, pick

COMMANDS = {"pick": pick, "extract": extract, "estimate": estimate, "doctor": doctor}


def main() -> None:
    """Runs the command that this process was called with."""
    run(sys.argv[1:])


def run(words: Sequence[str]) -> None:
    """Runs a command. Exit code 2, and one sentence on stderr, for what the user got wrong.

    Args:
      words: what follows `balal` on the command line.
    """
    flag_values = flags.FlagValues()
    with command_line.user_errors(flag_values):
        if not words or command_line.asks_for_help(words[:1]) or list(words) == ["help"]:
            print(str(__doc__).strip())
            return
        if words[0] == "--version":
            print(f"balal {balal.__version__}")
            return
        command = COMMANDS.get(words[0])
        if command is None:
            near = difflib.get_close_matches(words[0], COMMANDS, n=1, cutoff=0.3) or COMMANDS
            raise ValueError(
                f"there is no command {words[0]!r}: try {', '.join(near)}, or list them all with "
                f"balal --help"
            )
        command_line.define_flags(flag_values)
        command.define_flags(flag_values)
        if command_line.asks_for_help(words[1:]):
            print(command_line.help_text(command.__doc__, flag_values))
            return
        rest = command_line.parse(flag_values, words[1:], program=f"balal {words[0]}")
        command.main(flag_values, rest)
