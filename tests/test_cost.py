"""What a simulation costs: memory beside what processes take, operations beside the compiler's
count of their parts."""

import dataclasses
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import balal
from balal import cost, machine, memory_errors
from balal.kernels import balancing, distances, gaussian_process


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from /proc"
)
@pytest.mark.parametrize(
    ("name", "mode", "shape"),
    [
        ("core_set", "simulate", (300_000, 256, 2, 2)),
        ("random+balance", "ask", (100_000, 256, 300, 40)),
    ],
)
def test_memory_is_what_a_process_takes_within_a_fifth(name, mode, shape):
    rows, size, num_classes, budget = shape
    asked = dict(simulate=None, ask=20)[mode]
    said = balal.estimate(
        balal.strategy(name), rows, size, 1000, num_classes, budget, size=asked
    ).bytes
    child = ",".join(map(str, [name, mode, *shape]))
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", f"--child={child}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        cwd=Path(__file__).parents[1],
    )
    assert said == pytest.approx(int(run.stdout), rel=0.2)


def flops(function, *arguments) -> float:
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


def test_operations_of_a_label_are_those_the_compiler_counts():
    """Sixteen labels on top of a full record: the columns, the kernel and the means of all rows."""
    rows, size, num_classes, capacity = 4096, 64, 40, 64
    process = gaussian_process.begin(
        jnp.ones((rows, size)), capacity=capacity, num_classes=num_classes
    )
    leaves, structure = jax.tree.flatten(process)

    def label(*leaves):
        return jax.tree.leaves(
            gaussian_process.update(
                jax.tree.unflatten(structure, leaves), jnp.arange(16), jnp.zeros(16, int)
            )
        )

    counted = flops(label, *leaves)
    # The means move in a loop, of which the compiler counts one of eight rounds.
    means = 16 * rows * 2 * num_classes
    said = 16 * rows * (2 * size + 2 * capacity) + means / 8
    assert counted == pytest.approx(said, rel=0.25)


@pytest.mark.slow
def test_operations_of_a_pass_and_of_a_choice_are_those_the_compiler_counts():
    rows, size, num_classes = 1000, 64, 40
    a_pass = flops(distances.squared_distances, jnp.ones((rows, size)), jnp.ones(size))
    assert balal.estimate(
        balal.strategy("core_set"), rows, size, 0, num_classes, 20
    ).flops == pytest.approx(20 * a_pass, rel=0.1)
    table, over = jnp.ones((num_classes, rows)), jnp.arange(num_classes) > 0
    a_choice = flops(balancing.ratios, table, jnp.int32(0), over)
    counted = 20 * (a_pass + a_choice)
    assert balal.estimate(
        balal.strategy("random+balance"), rows, size, 0, num_classes, 20
    ).flops == pytest.approx(counted, rel=0.25)


def test_operations_grow_with_what_there_is_to_do():
    def cost(name, *, budget=20, **options):
        strategy = (
            dataclasses.replace(balal.strategy(name), **options)
            if options
            else balal.strategy(name)
        )
        return strategy.flops(1000, 8, 4, budget)

    assert cost("core_set+balance") == cost("core_set") + cost("random+balance")
    neighbours = 2 * 1000 * 1000 * 8
    assert (
        neighbours
        < cost("posterior", landmarks=5)
        < cost("posterior")
        < cost("posterior", budget=40)
    )


def test_a_job_above_the_limit_is_refused_before_anything_is_allocated():
    with pytest.raises(
        ValueError,
        match=r"2,000,000,000 x 512 .* needs 4.* GB, and there are 16.00 GB: at most about "
        r"7,\d\d\d,\d\d\d rows would fit; or lower num_classes",
    ):
        balal.estimate(balal.strategy("random"), 2_000_000_000, 512, 0, 3, 10, limit=16 * 10**9)


def test_what_is_said_to_fit_does():
    strategy, shape = balal.strategy("random+balance"), (4, 0, 3, 10)
    with pytest.raises(ValueError, match="at most about") as refused:
        balal.estimate(strategy, 50_000_000, *shape, limit=10**9)
    rows = int(re.search(r"about ([\d,]+) rows", str(refused.value))[1].replace(",", ""))
    assert rows > 5_000_000
    assert balal.estimate(strategy, rows, *shape, limit=10**9).bytes > 0.9e9


def test_a_pool_too_large_for_the_free_memory_is_refused_before_anything_is_computed(monkeypatch):
    pool = balal.Pool(jnp.zeros((1000, 4)), candidates=jnp.ones(1000, bool))
    options = dict(num_classes=3, budget=10)
    monkeypatch.setattr(machine, "available", lambda: 10**5)
    with pytest.raises(ValueError, match=r"1,000 x 4 .* and there are 0.12 MB: nothing would fit"):
        cost.check_memory(balal.strategy("random"), pool, **options)
    monkeypatch.setattr(machine, "available", lambda: 10**9)
    cost.check_memory(balal.strategy("random"), pool, **options)


def test_memory_that_runs_out_ends_in_what_would_fit(monkeypatch):
    exhausted = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 64 bytes.")

    def fails(strategy, pool, labels, *, budget, num_classes, capacity=None):
        raise exhausted

    def refuses(*sizes, limit, **_):
        raise ValueError(f"{sizes[1]} rows and {limit} bytes: at most about 7 rows would fit")

    arguments = balal.strategy("random"), balal.Pool(jnp.zeros((1000, 4))), jnp.zeros(1, int)
    call = memory_errors.told(fails)
    monkeypatch.setattr(machine, "available", lambda: 6 * 10**8)
    with monkeypatch.context() as patch:
        patch.setattr(cost, "estimate", refuses)
        with pytest.raises(
            MemoryError,
            match=r"^balal.fails ran out of memory \(RESOURCE_EXHAUSTED: .* 64 bytes\): 0.60 GB "
            r"are free now beside the pool; 1000 rows and 600016000 bytes: at most about 7 rows",
        ) as failed:
            call(*arguments, budget=2, num_classes=3)
    assert failed.value.__cause__ is exhausted
    monkeypatch.setattr(machine, "available", lambda: 10**7)
    with pytest.raises(MemoryError, match=r"10\.00 MB are free now, too little even to compile"):
        call(*arguments, budget=2, num_classes=3)


def test_any_other_error_of_a_selection_passes():
    def fails(strategy, pool, state):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match=r"^broken$"):
        memory_errors.told(fails)(None, None, None)


def test_the_verbs_of_the_loop_are_found_again_after_pickling():
    for function in (balal.init, balal.ask, balal.tell, balal.simulate, balal.one_shot):
        assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize(
    ("groups", "root", "most", "now"),
    [
        ("0::/a/b", "/sys/fs/cgroup", "memory.max", "memory.current"),
        (
            "9:pids:/\n3:cpu,memory:/a/b",
            "/sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
    ],
)
def test_free_memory_is_what_every_group_and_limit_around_the_process_leaves(
    groups, root, most, now, monkeypatch
):
    files = {
        "/proc/meminfo": "MemAvailable:  9000000 kB",
        "/proc/self/cgroup": groups,
        "/proc/self/statm": "100 50",
        f"{root}/a/{most}": "5000000",
        f"{root}/a/{now}": "3000000",
        f"{root}/a/memory.stat": "inactive_file 1000000",
        f"{root}/a/b/{most}": "max",
        f"{root}/a/b/{now}": "2000000",
    }
    monkeypatch.setattr(machine, "_read", lambda path: files.get(str(path), ""))
    monkeypatch.setattr(machine, "_address_space", lambda: None)
    assert (machine.available(), machine.memory()) == (3_000_000, 5_000_000)
    page = os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(machine, "_address_space", lambda: 100 * page + 7)
    assert (machine.available(), machine.memory()) == (7, 100 * page + 7)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("random", 0, 4, 0, 3, 10), "num_rows must be a whole number of at least 1"),
        (("random", 10, -4, 0, 3, 10), "num_features must be a whole number of at least 0"),
        (("ent", 10, 4, 0, 3, 10), "needs scores"),
        (("posterior", 10, 0, 0, 3, 10), "needs features"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        balal.estimate(balal.strategy(arguments[0]), *arguments[1:])


@pytest.mark.slow
def test_operations_of_a_strategy_that_does_not_say_are_not_known():
    @dataclasses.dataclass(frozen=True)
    class Own(balal.Ordered):
        needs = ()

        def order(self, pool, labelled, budget, key):
            return jnp.arange(budget, dtype=jnp.int32)

    for strategy in (Own(), balal.Balanced(Own()), balal.Posterior(Own())):
        cost = balal.estimate(strategy, 100, 2, 3, 2, 3)
        assert cost.flops is None
        assert cost.bytes > 100 * 2 * 4
