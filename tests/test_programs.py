"""The experiments as programs: what their descriptions show is understood."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from absl import flags

from balal.cli import command_line

PROGRAMS = [
    path.stem
    for path in sorted((Path(__file__).parent.parent / "experiments").glob("*.py"))
    if "program.run(main" in path.read_text()
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_command_in_the_description_of_a_program_is_understood(name):
    program = import_module(f"experiments.{name}")
    # A long command goes on after a backslash.
    description = re.sub(r"\\\n *", "", program.__doc__)
    commands = re.findall(
        rf"^    python -m experiments\.{name}\b(.*?)(?:   .*)?$", description, re.MULTILINE
    )
    assert commands
    for command in commands:
        flag_values = flags.FlagValues()
        command_line.define_flags(flag_values)
        program.define_flags(flag_values)
        assert flag_values(["program", *shlex.split(command)]) == ["program"]
