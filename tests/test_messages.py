"""Messages that can be followed: every flag that one names exists in the program that prints it."""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from absl import flags

from balal.cli import command_line
from balal.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
PROGRAMS = {f"balal.cli.{name}" for name in COMMANDS} | {
    f"experiments.{path.stem}"
    for path in (ROOT / "experiments").glob("*.py")
    if "program.run(main" in path.read_text()
}
# Flags of git and of TensorFlow Datasets, and one that stands for any.
_OTHERS = {"file_format", "flag", "porcelain", "untracked"}
# What a program never prints, as it never passes what the message is about.
_NEVER = {
    "balal.cli.pick": {"labels", "nolabelled"},
    "experiments.budgets": {
        *("classifier", "data_dir", "first", "pool_rows", "scores", "sizes", "start"),
    },
    "experiments.label_errors": {"classifier", "pool_rows", "scores"},
    "experiments.transfer": {"classifier", "pool_rows", "scores"},
    "experiments.compare": {"classifier", "data_dir", "pool_rows", "scores"},
    "experiments.rules": {"classifier", "data_dir", "pool_rows", "scores"},
    "experiments.heads": {"classifier", "nolabelled", "pool_rows", "scores"},
    "experiments.one_shot": {"nolabelled"},
    "experiments.second_answers": {"classifier", "data_dir", "pool_rows", "scores"},
    "experiments.rounds": {"classifier", "data_dir", "pool_rows", "scores"},
}


def path_of(module):
    parts = ROOT / module.replace(".", "/")
    return next((p for p in (parts.with_suffix(".py"), parts / "__init__.py") if p.is_file()), None)


@cache
def parsed(module):
    """What the names of a module stand for, `(module, name)` with None for a module itself, and the
    syntax trees of its functions, classes and constants."""
    tree, names, defined = ast.parse(path_of(module).read_text()), {}, {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in (
            "balal",
            "experiments",
        ):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                there = (full, None) if path_of(full) else (node.module, alias.name)
                names[alias.asname or alias.name] = there
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    defined[target.id] = node
    return names, defined


def used(module, name):
    """What a function, class or constant may use."""
    names, defined = parsed(module)
    if name not in defined:
        return {names[name]} if name in names else set()
    found = set()
    for node in ast.walk(defined[name]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            there = names.get(node.value.id)
            found |= {(there[0], node.attr)} if there and there[1] is None else set()
        elif isinstance(node, ast.Name):
            there = (module, node.id) if node.id in defined else names.get(node.id)
            found |= {there} if there and there[1] else set()
    return found


def reached(program):
    """All that the program may use."""
    left, found = [(program, "main"), (program, "define_flags")], set()
    while left:
        here = left.pop()
        if here not in found:
            found.add(here)
            left += used(*here)
    return found


def named_in(module, name):
    """The flags that the texts of a function, class or constant name, docstrings aside."""
    node = parsed(module)[1].get(name)
    if node is None:
        return
    docstrings = {
        id(part.body[0].value)
        for part in ast.walk(node)
        if isinstance(part, ast.FunctionDef | ast.ClassDef) and isinstance(part.body[0], ast.Expr)
    }
    for part in ast.walk(node):
        value = getattr(part, "value", None)
        if isinstance(value, str) and id(part) not in docstrings:
            yield from re.findall(r"(?<![\w-])--([a-z][a-z_]*)", value)


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_every_flag_that_a_message_names_exists_in_the_program_that_prints_it(program):
    values = flags.FlagValues()
    command_line.define_flags(values)
    import_module(program).define_flags(values)
    known = {*values, *(f"no{name}" for name in values if values[name].boolean), "help", "version"}
    functions = reached(program)
    named = {
        (flag, f"{module}.{name}")
        for module, name in functions
        for flag in named_in(module, name)
        if flag not in known | _OTHERS | _NEVER.get(program, set())
    }
    assert not named
    # The walk reached the messages at all.
    assert (program, "main") in functions
    assert len(functions) > 10
