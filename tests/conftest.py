"""What every test runs under: strict shapes, eight virtual devices, derandomised hypothesis."""

import atexit
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

# Most of the suite's time is compilation. Three quarters of that are LLVM's optimisations, the newer
# emitters of fused loops and the splitting of a program for many cores, none of which changes a
# decision of ours; and what one test or process has compiled is kept for the others, until the last
# one ends. A flag that another jaxlib does not know would end the process.
if not os.environ.get("BALAL_TEST_OPTIMISED"):
    quick = "--xla_backend_optimization_level=0"
    if version("jaxlib").startswith("0.10."):
        quick += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick}"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="balal-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest

jaxtyped = jaxtyping.jaxtyped


def jaxtyped_where_annotated(*, typechecker):
    """The decorator that every function of balal gets in tests, for those that have annotations.
    A function within a function is made, and would be decorated, at every call of the outer one."""
    decorate = jaxtyped(typechecker=typechecker)
    return lambda function: decorate(function) if function.__annotations__ else function


jaxtyping.jaxtyped = jaxtyped_where_annotated

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, max_examples=50
)
hypothesis.settings.load_profile("ci")

SHARED = Path(os.environ.get("BALAL_SHARED", "../shared"))


@pytest.fixture(autouse=True, scope="module")
def programs_of_a_module():
    """Go with it: each compiled program takes memory maps, of which a process may have some 65,000,
    and all tests together need more."""
    yield
    jax.clear_caches()


@pytest.fixture
def shared() -> Path:
    """The folder of full features and weights; tests that ask for it are marked `data`."""
    if not (SHARED / "data").is_dir():
        pytest.skip(
            f"no data at {SHARED}: set BALAL_SHARED to the folder with the full features and "
            f"weights"
        )
    return SHARED


@pytest.fixture(scope="session")
def embedded():
    """The embedded CIFAR-100 pool as plain arrays: features, scores by name, labels."""
    path = Path(__file__).parent.parent / "experiments" / "data" / "cifar100_lite0_compact_pool.npz"
    with np.load(path, allow_pickle=False) as file:
        features = file["features"] * file["scale"]
        scores = {
            name: file[name] for name in ("entropy", "margin", "least_confidence", "predicted")
        }
        return features, scores, file["labels"]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The file of weights of a small network, which is a source model called `small` meanwhile."""
    from small_network import SMALL, save, state_dict

    from balal import features
    from balal.models import sources

    path = tmp_path_factory.mktemp("network") / "small.safetensors"
    save(state_dict(SMALL), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.SOURCES, "small", SMALL)
        patch.setattr(features, "SHARD", 32)
        yield path


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="Run the slow tests, too.")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One worker for each core; none where a few tests are named, which would wait for them."""
    from balal import host  # not before the hook that checks shapes and types is there

    named = (
        config.option.keyword or config.option.markexpr or config.args != config.getini("testpaths")
    )
    return 0 if named else host.cores()


def pytest_collection_modifyitems(config, items):
    """Doctests belong to the quick part of the suite, which also runs against the oldest supported
    versions. Slow tests are left out unless they are asked for."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.quick)
        if item.get_closest_marker("slow") and not config.option.slow:
            item.add_marker(pytest.mark.skip(reason=SLOW))


SLOW = "slow"


def pytest_terminal_summary(terminalreporter):
    """Says in words what was left out, and how to run it."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    slow = sum(reason.endswith(SLOW) for reason in reasons)
    if slow:
        terminalreporter.write_line(
            f"{slow} slow tests were left out: python -m pytest --slow runs everything."
        )
    data = sum("no data at" in reason for reason in reasons)
    if data:
        terminalreporter.write_line(
            f"{data} tests need the full features and weights: set BALAL_SHARED to their folder."
        )
