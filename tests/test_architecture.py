"""The house as it is drawn: which way imports run, how signatures read, what `import balal`
loads."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

import pytest

import balal

PACKAGE = Path(balal.__file__).parent
# Each imports from itself and from those above it only.
LAYERS = [
    {"array_file", "atomic_files", "extras", "folder_lock", "machine", "pickles", "wording", "xla"},
    {"types"},
    {"sharding"},
    {"check"},
    {"labelled_set"},
    {"kernels"},
    {"imbalance", "label_errors", "metrics", "random_sampling", "transfer"},
    {"difficulty"},
    {"strategies"},
    {"pools"},
    {"preparation"},
    {"loop"},
    {"simulation"},
    {"retraining"},
    {"state_file", "cost"},
    {"memory_errors"},
    {"testing"},
    {"cli", "__main__"},
]
# The same inside the room of the kernels, but that those of one layer do not know each other.
KERNELS = [
    {"ordering", "sampling"},
    {"distances"},
    {
        "balancing",
        "boundaries",
        "class_balance",
        "class_orders",
        "diversity",
        "gaussian_process",
        "gradients",
        "herding",
        "k_center",
        "k_means",
        "query_information",
        "radii",
        "switch",
        "uncertainty",
    },
    {"balanced_k_center", "class_means", "disagreement", "neighbours"},
    {"typicality"},
]
# What stands beside the kernels, and what each may import beside itself. `import balal` and all but
# the command line do without them.
COMMON = {
    "array_file",
    "atomic_files",
    "folder_lock",
    "pickles",
    "extras",
    "wording",
    "types",
    "check",
}
BESIDE = {
    "heads": COMMON,
    "models": COMMON,
    "data": COMMON | {"machine"},
    "feature_cache": COMMON,
    "features": COMMON | {"sharding", "kernels", "models", "data", "feature_cache"},
}
# Every module of the package but what stands beside it, which imports more than the package may.
MODULES: list[ModuleType] = [
    import_module(f"balal.{name}")
    for name in (
        module.name.removeprefix("balal.") for module in walk_packages(balal.__path__, "balal.")
    )
    if name.split(".")[0] not in BESIDE
]


def imports_of(path: Path) -> set[str]:
    """The modules of balal that a file imports, in full but for `balal.`: `kernels.balancing`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert not getattr(node, "level", 0), f"{path}: imports name their module in full"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "balal":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if is_module(name) else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("balal.")}
    return {name.removeprefix("balal.") for name in found}


def is_module(name: str) -> bool:
    place = PACKAGE.parent / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").exists()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_import_runs_against_the_layers(path):
    room = room_of(path)
    imported = {name.split(".")[0] for name in imports_of(path)}
    if room == "__init__":
        assert not imported & {*BESIDE, "cli"}
        return
    if room in BESIDE:
        assert imported <= BESIDE[room] | {room}, f"{room} stands beside the kernels"
        return
    level = next((number for number, layer in enumerate(LAYERS) if room in layer), None)
    assert level is not None, f"{room} has no place in the layers"
    allowed = set().union(*LAYERS[: level + 1])
    if room in ("cli", "__main__"):
        # What the library lacks, a program sees: `balal.__version__` and all that is public.
        allowed |= {"balal", *BESIDE}
    assert imported <= allowed, f"{room} imports {imported - allowed}, which stands above it"


def kernel_layer(name: str) -> int:
    return next(number for number, layer in enumerate(KERNELS) if name in layer)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted((PACKAGE / "kernels").rglob("*.py"))
        if path.parent.name != "kernels" or path.stem != "__init__"
    ],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_kernels_do_not_know_each_other(path):
    name = path.relative_to(PACKAGE / "kernels").parts[0].removesuffix(".py")
    others = {module.split(".")[1] for module in imports_of(path) if module.startswith("kernels.")}
    for other in others - {name}:
        assert kernel_layer(other) < kernel_layer(name), f"{name} imports {other}"


def test_importing_balal_loads_nothing_heavy():
    program = (
        "import sys, balal; "
        "heavy = {'flax', 'optax', 'sklearn', 'matplotlib', 'tensorflow', 'tensorflow_datasets', "
        "'hypothesis', 'absl', 'tqdm', 'pandas'}; "
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def public_functions():
    for module in MODULES:
        for name, value in vars(module).items():
            function = inspect.unwrap(value) if callable(value) else value
            if (
                not name.startswith("_")
                and inspect.isfunction(function)
                and function.__module__.startswith(module.__name__)
            ):
                yield pytest.param(name, function, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize(("name", "function"), list(public_functions()))
def test_signatures_read_alike(name, function):
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        # Labels are data, even where they may be missing.
        positional = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        positional &= parameter.name != "labels"
        assert parameter.kind is not inspect.Parameter.VAR_KEYWORD, "no **kwargs passed along"
        assert not (positional and parameter.default is not inspect.Parameter.empty), (
            f"option {parameter.name} must be keyword-only"
        )
        assert (
            parameter.name not in {"rng", "seed", "random_state", "n_classes"}
            or function.__module__ == "balal.testing"
        )
        if parameter.name == "key" and positional:
            assert parameters[0].name == "key", (
                "a function that always uses chance takes its key first"
            )


@pytest.mark.parametrize(("name", "function"), list(public_functions()))
def test_public_functions_are_documented(name, function):
    assert inspect.getdoc(function), f"{name} has no docstring"


def test_nothing_shadows_a_module():
    for module in MODULES:
        parent, _, name = module.__name__.rpartition(".")
        assert getattr(sys.modules[parent], name) is module, module


def test_the_package_reads_and_runs_no_pickles():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(
            r"(?<!model\.)\b(eval|exec|yaml\.load|torch\.load|joblib)\b\(|import pickle\b", text
        ), path
        assert text.count("np.load(") == text.count("allow_pickle=False)"), path
