"""The house as DESIGN draws it: which way imports run, how signatures read, what `import balal` loads."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import pytest

import balal

PACKAGE = Path(balal.__file__).parent
LAYERS = [
    {"types"},
    {"sharding"},
    {"check"},
    {"record", "chance", "ties", "neighbours"},
    {"uncertainty", "diversity", "coverage", "balancing", "posterior", "imbalance", "metrics", "expected"},
    {"bounds"},
    {"strategies"},
    {"loop"},
    {"files", "cost"},
    {"testing"},
]
BESIDE = {"heads", "models", "data"}
# Every module of the package but what stands beside it, which imports more than the package may.
MODULES: list[ModuleType] = [import_module(f"balal.{module.name}") for module in iter_modules(balal.__path__) if module.name not in BESIDE]


def imports_of(path: Path) -> set[str]:
    """The parts of balal that a file imports: `from balal import x` and `from balal.x import y` both give x."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert not getattr(node, "level", 0), f"{path}: imports name their module in full"
        if isinstance(node, ast.ImportFrom) and node.module == "balal":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("balal."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("balal.")}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_runs_against_the_layers(path):
    room, imported = room_of(path), imports_of(path)
    if room == "__init__":
        assert not imported & BESIDE
        return
    if room in BESIDE:
        assert imported <= {"types", "check", room}, f"{room} stands beside the kernels"
        return
    level = next((number for number, layer in enumerate(LAYERS) if room in layer), None)
    assert level is not None, f"{room} has no place in the layers"
    allowed = set().union(*LAYERS[: level + 1])
    assert imported <= allowed, f"{room} imports {imported - allowed}, which stands above it"


def test_kernels_do_not_know_each_other():
    kernels = next(layer for layer in LAYERS if "coverage" in layer)
    for name in kernels:
        assert not imports_of(PACKAGE / f"{name}.py") & (kernels - {name}), name


def test_importing_balal_loads_nothing_heavy():
    program = (
        "import sys, balal; "
        "heavy = {'flax', 'optax', 'sklearn', 'matplotlib', 'tensorflow', 'tensorflow_datasets', 'hypothesis', 'absl', 'tqdm', 'pandas'}; "
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def public_functions():
    for module in MODULES:
        for name, value in vars(module).items():
            function = inspect.unwrap(value) if callable(value) else value
            if not name.startswith("_") and inspect.isfunction(function) and function.__module__.startswith(module.__name__):
                yield pytest.param(name, function, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize(("name", "function"), list(public_functions()))
def test_signatures_read_alike(name, function):
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        positional = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert parameter.kind is not inspect.Parameter.VAR_KEYWORD, "no **kwargs passed along"
        assert not (positional and parameter.default is not inspect.Parameter.empty), f"option {parameter.name} must be keyword-only"
        assert parameter.name not in {"rng", "seed", "random_state", "n_classes"} or function.__module__ == "balal.testing"
        if parameter.name == "key" and positional:
            assert parameters[0].name == "key", "a function that always uses chance takes its key first"


@pytest.mark.parametrize(("name", "function"), list(public_functions()))
def test_public_functions_are_documented(name, function):
    assert inspect.getdoc(function), f"{name} has no docstring"


def test_no_public_function_shadows_its_module():
    for module in MODULES:
        value = vars(module).get(module.__name__.split(".")[-1])
        assert not inspect.isfunction(inspect.unwrap(value) if callable(value) else value), module


def test_the_package_reads_and_runs_no_pickles():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"(?<!model\.)\b(eval|exec|yaml\.load|torch\.load|joblib)\b\(|import pickle", text), path
        assert text.count("np.load(") == text.count("allow_pickle=False)"), path
