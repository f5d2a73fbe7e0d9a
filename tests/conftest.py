"""What every test runs under: strict shapes and dtypes, eight virtual devices, derandomised
hypothesis; and how the whole suite is shared out among processes."""

import os
import shutil
import typing
from collections import Counter
from importlib.metadata import version
from pathlib import Path

# Most of the suite's time is compilation. Three quarters of that are LLVM's optimisations, the
# newer emitters of fused loops and the splitting of a program for many cores, none of which changes
# a decision of ours. What one test, process or run has compiled is kept for the others, until
# `pytest --cache-clear`. A flag that another jaxlib does not know would end the process.
if not os.environ.get("BALAL_TEST_OPTIMISED"):
    flags = ["--xla_backend_optimization_level=0"]
    if version("jaxlib").startswith("0.10."):
        flags += ["--xla_cpu_use_fusion_emitters=false"]
        flags += ["--xla_cpu_parallel_codegen_split_count=1"]
    # A worker finds those of its parent: with other flags it would not find its programs.
    given = os.environ.get("XLA_FLAGS", "").split()
    os.environ["XLA_FLAGS"] = " ".join(given + [flag for flag in flags if flag not in given])
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ".pytest_cache/d/programs"
    )
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Tests run on every core, so the threads of NumPy's products would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest

jaxtyped = jaxtyping.jaxtyped


def of_arrays(annotation) -> bool:
    """Whether it says a shape somewhere, as in `Float[Array, "n d"] | None`."""
    # The arguments of `Callable[[...], ...]` are a list.
    inner = annotation if isinstance(annotation, list) else typing.get_args(annotation)
    own = getattr(annotation, "__module__", "") or ""
    return own.startswith("jaxtyping") or any(map(of_arrays, inner))


def jaxtyped_of_arrays(*, typechecker):
    """The decorator that every function and dataclass of balal gets in tests, for those that say
    the shapes of arrays: pyright has checked the others, and each check takes longer than most of
    what is called here."""
    decorate = jaxtyped(typechecker=typechecker)

    def where_it_tells(definition):
        annotations = getattr(definition, "__annotations__", {})
        return decorate(definition) if any(map(of_arrays, annotations.values())) else definition

    return where_it_tells


jaxtyping.jaxtyped = jaxtyped_of_arrays

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, max_examples=20
)
hypothesis.settings.load_profile("ci")

SHARED = Path(os.environ.get("BALAL_SHARED", "../shared"))
# What runs where no marker is named.
USUAL = "not slow and not nightly"
# More processes than this wait for the largest files, and each takes up to 2 GB.
MOST_PROCESSES = 8
# Of the 65,530 that Linux allows a process.
MANY_MAPS = 30_000
# Of the kept programs, above which all are forgotten.
MOST_BYTES = 2**30


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """All tests, when none are named: without the slow and nightly ones where no marker is named
    either, and a process for each core, each file in one of them."""
    # A worker has the same arguments, and would have workers of its own, and so on without end.
    worker = hasattr(config, "workerinput")
    if worker or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    programs = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    if sum(path.stat().st_size for path in programs.glob("*")) > MOST_BYTES:
        shutil.rmtree(programs)
    if not config.option.markexpr:
        config.option.markexpr = USUAL
        # The workers choose tests by themselves, and are not told what was chosen here.
        os.environ["PYTEST_ADDOPTS"] = f"{os.environ.get('PYTEST_ADDOPTS', '')} -m '{USUAL}'"
    cores = min(len(os.sched_getaffinity(0)), MOST_PROCESSES)
    alone = config.option.usepdb or config.option.collectonly or cores == 1
    if config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None and not alone:
        config.option.numprocesses = cores
        config.option.dist = "loadfile"
        config.option.loadscopereorder = False


def pytest_terminal_summary(terminalreporter, config):
    """What was left out, and how to run it."""
    left_out = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
    )
    lines = [f"{number} tests: {reason}" for reason, number in left_out.most_common()]
    if config.option.markexpr == USUAL:
        lines.append("the slow tests: python -m pytest -m 'slow or nightly' runs them")
    if lines:
        terminalreporter.section("left out")
    for line in lines:
        terminalreporter.line(line)


@pytest.fixture(autouse=True, scope="module")
def programs_of_a_module():
    """Go with it once there are many: each takes memory maps, up to 500, of which a process may
    have so many and no more."""
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > MANY_MAPS:
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


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """A tiny data set in the full layout, 120 rows of 6 imbalanced clusters and 60 balanced test
    rows; `other.npz` beside it is another."""
    folder = tmp_path_factory.mktemp("toy")
    for seed, name in enumerate(("toy", "other")):
        chance = np.random.default_rng(seed)
        centres = 1.2 * chance.normal(size=(6, 10))
        labels, test_labels = (
            chance.permutation(np.repeat(np.arange(6), [50, 30, 20, 10, 6, 4])),
            np.repeat(np.arange(6), 10),
        )
        np.savez(
            folder / f"{name}.npz",
            pool_features=(centres[labels] + chance.normal(size=(120, 10))).astype(np.float16),
            pool_labels=labels.astype(np.uint8),
            test_features=(centres[test_labels] + chance.normal(size=(60, 10))).astype(np.float16),
            test_labels=test_labels.astype(np.uint8),
        )
    return folder / "toy.npz"


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


def pytest_collection_modifyitems(items):
    """Doctests belong to the quick part of the suite, which also runs against the oldest supported
    versions."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.quick)
