"""The experiments as programs: what their descriptions show is understood."""

import copy
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from absl import flags

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
    # Its own flags and those that it shares, and no other program's.
    known = {
        flag.name: flag
        for values in (getattr(program, "FLAGS", flags.FLAGS), flags.FLAGS)
        for module, defined in values.flags_by_module_dict().items()
        if module == program.__name__ or module.startswith("balal.cli")
        for flag in defined
    }
    for command in commands:
        copies = flags.FlagValues()
        for flag in known.values():
            copies[flag.name] = copy.deepcopy(flag)
        assert copies(["program", *shlex.split(command)]) == ["program"]
