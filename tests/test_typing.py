"""The public names as a type checker sees them downstream: listed, and typed."""

import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import balal

PACKAGES = [
    "balal",
    "balal.kernels",
    "balal.strategies",
    "balal.heads",
    "balal.models",
    "balal.data",
    "balal.features",
    "balal.feature_cache",
]


def public_names(module: ModuleType) -> list[str]:
    """What `__all__` lists, or, where a module has none, the functions and classes that it
    defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or callable(inspect.unwrap(value)))
        and getattr(value, "__module__", None) == module.__name__
    ]


def attribute(module: ModuleType, name: str) -> object:
    """A public name of a module, a submodule that is imported where it is asked for among them."""
    if not hasattr(module, name):
        import_module(f"{module.__name__}.{name}")
    return getattr(module, name)


def uses(package: str) -> list[str]:
    """Lines that use every public name of a package, and those of the modules among them."""
    module, lines = import_module(package), []
    for name in public_names(module):
        value = attribute(module, name)
        alias = f"{package}.{name}".replace(".", "_")
        lines += [f"from {package} import {name} as {alias}", f"print({alias})"]
        if isinstance(value, ModuleType) and value.__name__ not in PACKAGES:
            lines += [f"print({alias}.{inner})" for inner in public_names(value)]
    return lines


@pytest.mark.parametrize("package", PACKAGES[:6])
def test_every_public_name_is_listed_once_and_there(package):
    module = import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert attribute(module, name) is not None


def test_the_package_says_that_it_is_typed():
    assert (Path(balal.__file__).parent / "py.typed").exists()


@pytest.mark.slow
def test_a_strict_type_checker_has_no_complaint_about_a_file_that_uses_every_public_name(tmp_path):
    pytest.importorskip("pyright", reason="the extra `test` installs it")
    lines = [line for package in PACKAGES for line in uses(package)]
    assert len(lines) > 150
    (tmp_path / "downstream.py").write_text("\n".join(lines) + "\n")
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("{"), f"pyright did not run: {done.stderr}"
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] == 1
    assert [
        f"{fault['range']['start']['line'] + 1}: {fault['message']}"
        for fault in told["generalDiagnostics"]
    ] == []
