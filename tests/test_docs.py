"""README and docs/ are true: links lead somewhere, commands, flags and names exist."""

import ast
import json
import pkgutil
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

import balal
from balal.strategies import RULES, STRATEGIES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What defines a flag: `flags.DEFINE_list`, `_list` for short, `parser.add_argument`.
DEFINES = re.compile(r"\bDEFINE_\w+$|^_(list|integer|float|string|bool|enum)$|\badd_argument$")
FOLDERS = ("experiments", "benchmarks", "balal/cli")
PROGRAMS = {"python", "balal", "mkdocs", "pre-commit", "pyright", "ruff", "taskset"}

each_page = pytest.mark.parametrize(
    "page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 140
    assert all(len(line) <= 110 for line in lines if not line.startswith("|"))


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{target}: there is no such file"
        if anchor:
            assert anchor in headings(goal), f"{target}: there is no such heading"


@each_page
def test_commands_and_their_flags_exist(page):
    wrong = []
    for code in code_of(page):
        for command in code.split("&&"):
            wrong += faults(command)
        wrong += [
            f"{flag}: no program has it"
            for flag in re.findall(r"^--(\w+)(?:=\S+)?$", code)
            if flag not in all_flags()
        ]
    assert not wrong, "\n".join(wrong)


@each_page
def test_names_of_the_library_exist(page):
    named = set(re.findall(r"\bbalal(?:\.[A-Za-z]\w*)+", "\n".join(code_of(page))))
    missing = {name for name in named if not exists(name)}
    assert not missing


@each_page
def test_python_examples_are_python(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        if not block.startswith(">>>"):
            assert ast.parse(block).body


def test_every_strategy_and_rule_is_described():
    page = (ROOT / "docs/strategies.md").read_text()
    assert not {name for name in STRATEGIES if f"`{name}`" not in page}
    assert not {rule for rule in RULES if f"`+{rule}`" not in page}


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to(ROOT / "docs") for page in PAGES if "docs" in page.parts]
    assert not [page for page in pages if f" {page}\n" not in navigation]


def test_every_public_module_has_its_place_in_the_reference():
    shown = re.findall(
        r"^::: (\S+)$",
        "\n".join(page.read_text() for page in (ROOT / "docs/api").glob("*.md")),
        re.MULTILINE,
    )
    assert len(set(shown)) == len(shown), "a module is on two pages"
    public = {
        module.name
        for module in pkgutil.walk_packages(balal.__path__, "balal.")
        if not module.name.startswith(("balal.cli", "balal._")) and defines_something(module)
    }
    assert public <= set(shown), f"docs/api lacks {', '.join(sorted(public - set(shown)))}"
    assert all(exists(name) for name in shown)


def test_figures_are_small():
    assert all(
        path.stat().st_size < 300_000 for path in (ROOT / "docs").iterdir() if path.is_file()
    )


def test_the_picture_of_the_readme_shows_the_figures_of_its_table():
    kept = json.loads((ROOT / "docs/effect.json").read_text())
    rules = dict(none="random", balance="random+balance", posterior="random+posterior")
    for rule, name in rules.items():
        row = re.search(
            rf"^\| {re.escape(name)} +\|(.*)$", (ROOT / "README.md").read_text(), re.MULTILINE
        )
        assert row is not None
        printed = [float(cell.split()[0]) for cell in row[1].split("|")[:3]]
        means = dict(zip(kept["budgets"], map(mean, kept["accuracy"][rule]), strict=True))
        assert [means[500], means[1000], means[2000]] == pytest.approx(printed, abs=0.05)


def test_hooks_before_a_commit_check_what_the_ci_checks():
    entries = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    # The test command is read from the README there.
    checked = (ROOT / ".ci/run").read_text() + (ROOT / "README.md").read_text()
    assert entries
    assert not [entry for entry in entries if entry not in checked]


def test_the_citation_names_this_version():
    assert f"\nversion: {balal.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def code_of(page: Path) -> list[str]:
    """Everything that a page shows as code: lines of blocks, and what stands between backticks."""
    text = page.read_text()
    fenced = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    rest = re.sub(r"```\w*\n.*?```", "", text, flags=re.DOTALL)
    lines = [line.strip() for line in re.findall(r"^    .*$", rest, re.MULTILINE)]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]
    return [line for block in fenced for line in block.splitlines()] + lines + spans


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    kept = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles]
    return {re.sub(r"[\s-]+", "-", title) for title in kept}


def faults(command: str) -> list[str]:
    """What is wrong with a command of a page; nothing where it is none."""
    words = shlex.split(command) if command.split()[:1] in [[name] for name in PROGRAMS] else []
    if words[:1] == ["taskset"]:
        words = words[3:]
    if words[:2] == ["python", "-m"]:
        if words[2] == "pip":
            extras = re.findall(r"\w[\w-]*", "".join(re.findall(r"\[(.*?)\]", words[-1])))
            return [f"there is no extra [{x}]" for x in extras if x not in known_extras()]
        if words[2] == "pytest":
            return []
        path = ROOT / (words[2].replace(".", "/") + ".py")
    elif words[:1] == ["python"]:
        path = ROOT / words[1]
    elif words[:1] == ["balal"] and len(words) > 1:
        path = ROOT / "balal/cli" / f"{words[1]}.py"
    else:
        return []
    if not path.exists():
        return [f"{command}: there is no {path.relative_to(ROOT)}"]
    flags = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
    known = flags_of(path)
    known |= {f"no{flag}" for flag in known}
    return [f"{command.strip()}: there is no --{flag}" for flag in flags if flag not in known]


def known_extras() -> set[str]:
    project = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1]
    return set(re.findall(r"^([\w-]+) = \[", project.split("\n[")[0], re.MULTILINE))


def flags_of(path: Path) -> set[str]:
    """The flags that a program defines, itself or in what it imports of the programs."""
    flags, waiting, seen = {"help"}, [path], {path}
    while waiting:
        own, imported = read(waiting.pop())
        flags |= own
        waiting += imported - seen
        seen |= imported
    return flags


@cache
def read(path: Path) -> tuple[frozenset[str], frozenset[Path]]:
    """The flags that a file defines, and the files of programs that it imports."""
    flags, files = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and DEFINES.search(ast.unparse(node.func)):
            names = [word.value for word in node.args[:1] if isinstance(word, ast.Constant)]
            flags |= {str(name).lstrip("-") for name in names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            folder = ROOT / node.module.replace(".", "/")
            files |= {folder.with_suffix(".py"), *(folder / f"{a.name}.py" for a in node.names)}
    own = {
        file
        for file in files
        if file.exists() and any(file.is_relative_to(ROOT / name) for name in FOLDERS)
    }
    return frozenset(flags), frozenset(own)


@cache
def all_flags() -> set[str]:
    return set().union(*(flags_of(path) for name in FOLDERS for path in (ROOT / name).glob("*.py")))


def exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def defines_something(module: pkgutil.ModuleInfo) -> bool:
    path = ROOT / module.name.replace(".", "/")
    source = path / "__init__.py" if module.ispkg else path.with_suffix(".py")
    return any(
        isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        for node in ast.parse(source.read_text()).body
    )
