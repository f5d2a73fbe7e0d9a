import json
import re
import socket
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import two_processes
from jax.sharding import AxisType
from reference import imbalanced_pool
from variations import some

import balal
from balal import check, pools, sharding
from balal.kernels import k_means, neighbours, typicality
from balal.kernels.neighbours import Neighbours
from balal.types import Pool, Prepared, Scores

DEVICES = 8
ROWS, SIZE, CLASSES, BUDGET = 1003, 16, 12, 100
KERNELS = {
    "score": lambda pool: balal.score(pool.logits),
    "diversify": lambda pool: balal.diversify(
        pool.scores.entropy, pool.scores.predicted, BUDGET, candidates=pool.candidates
    ),
    "k_center": lambda pool: balal.k_center(
        pool.features, BUDGET, candidates=pool.candidates, key=jax.random.key(0)
    ),
    "k_center, labelled": lambda pool: balal.k_center(
        pool.features, 40, candidates=pool.candidates, labelled=jnp.array([3, -1, 77])
    ),
    "nearest": lambda pool: neighbours.nearest(pool.features, 7, candidates=pool.candidates),
    "nearest among some": lambda pool: neighbours.nearest(
        pool.features, 90, candidates=pool.candidates, among=jnp.arange(0, ROWS, 9)
    ),
    "nearest by cluster": lambda pool: neighbours.nearest(
        pool.features,
        7,
        candidates=pool.candidates,
        clusters=k_means.k_means(
            pool.features, pool.features[jnp.arange(12)], candidates=pool.candidates, rounds=3
        ),
        reach=64,
    ),
    "typicality": lambda pool: typicality.typicality_ranks(
        pool.features, candidates=pool.candidates
    ),
    "k_means_plus_plus": lambda pool: k_means.k_means_plus_plus(
        jax.random.key(0), pool.features, 20, candidates=pool.candidates
    ),
    "k_means": lambda pool: k_means.k_means(
        pool.features, pool.features[jnp.arange(20)], candidates=pool.candidates
    ),
    "top_k": lambda pool: sharding.top_k(jnp.round(pool.features[:, 0]), 300),
}
STRATEGIES = ["random", "ms", "ent_inv_div", "core_set", "ent_inv_div+balance", "random+posterior"]


@pytest.fixture(scope="module")
def mesh():
    return sharding.mesh(devices=jax.devices()[:DEVICES])


@pytest.fixture(scope="module")
def plain():
    features, logits, labels = imbalanced_pool(ROWS, SIZE, CLASSES, 40)
    return balal.pool(features, logits=logits, keep_logits=True), labels


@pytest.fixture(scope="module")
def spread(mesh, plain):
    pool, labels = plain
    return sharding.spread(mesh, pool), np.pad(labels, (0, -ROWS % DEVICES), constant_values=-1)


def test_there_are_as_many_devices_as_are_tested():
    assert len(jax.devices()) >= DEVICES


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_find_on_many_devices_what_they_find_on_one(name, mesh, plain, spread):
    expected = jax.jit(KERNELS[name])(plain[0])
    with jax.set_mesh(mesh):
        found = jax.jit(KERNELS[name])(spread[0])
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        one, other = (
            np.asarray(one),
            np.asarray(other)[: len(one)] if one.ndim else np.asarray(other),
        )
        if one.dtype.kind == "f":
            # Sums over the pool come out a little different when they are added up device by
            # device; ranks may change by one or two.
            np.testing.assert_allclose(
                one, other, rtol=1e-4, atol=2 / ROWS if name == "typicality" else 1e-4
            )
        elif name.startswith("nearest"):
            assert np.mean(one == other) > 0.999
        else:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", some(STRATEGIES, kept=["core_set"]))
def test_strategies_pick_on_many_devices_what_they_pick_on_one(name, mesh, plain, spread):
    run = partial(
        balal.simulate,
        balal.strategy(name),
        budget=BUDGET,
        num_classes=CLASSES,
        key=jax.random.key(1),
    )
    expected = run(*plain)
    with jax.set_mesh(mesh):
        found = run(*spread)
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_lanes_of_a_vmap_pick_on_many_devices_what_they_pick_on_one(mesh, plain, spread):
    def run(pool, labels):
        simulate = partial(
            balal.simulate, balal.strategy("core_set"), pool, labels, budget=40, num_classes=CLASSES
        )
        return jax.vmap(lambda key: simulate(key=key).indices)(
            jax.random.split(jax.random.key(0), 2)
        )

    expected = run(*plain)
    with jax.set_mesh(mesh):
        np.testing.assert_array_equal(run(*spread), expected)


def collectives(program) -> list[tuple[int, bool, str]]:
    """Every exchange between devices in a compiled program: its bytes, whether it is in a loop, and
    what it is from."""
    sizes, found = dict(f32=4, s32=4, u32=4, pred=1), []
    for line in program.as_text().splitlines():
        match = re.search(
            r"= (.*?) (?:all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
            r"(?:-start)?\(",
            line,
        )
        if match:
            arrays = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
            source = re.search(r'op_name="([^"]*)"', line)
            size = sum(
                sizes[kind] * int(np.prod([int(n) for n in shape.split(",") if n]))
                for kind, shape in arrays
            )
            found.append((size, "while/body" in (source[1] if source else "while/body"), line))
    return found


def compiled(mesh, name: str, rows: int, size: int):
    """A simulation over a pool of that size, as it runs on the mesh."""

    def run(features, scores, predicted, candidates, labels, rows, distances):
        found = Neighbours(rows, distances)
        pool = Pool(
            features,
            Scores(scores, scores, scores, predicted),
            candidates=candidates,
            prepared=dict(surroundings=Prepared((scores, found), jnp.zeros(2, jnp.uint32))),
        )
        return balal.simulate(
            balal.strategy(name), pool, labels, budget=1000, num_classes=100, key=jax.random.key(0)
        )

    kinds = [
        ((rows, size), jnp.float32),
        ((rows,), jnp.float32),
        ((rows,), jnp.int32),
        ((rows,), bool),
        ((rows,), jnp.int32),
        ((rows, 16), jnp.int32),
        ((rows, 16), jnp.float32),
    ]
    with jax.set_mesh(mesh):
        arrays = (
            jax.ShapeDtypeStruct(shape, kind, sharding=sharding.rows(mesh)) for shape, kind in kinds
        )
        return jax.jit(run).lower(*arrays).compile()


@pytest.mark.parametrize(
    ("name", "a_round", "once"),
    [
        ("core_set", 8_000, 10_000),
        ("core_set+balance", 16_000, 2.5e6),
    ],
)
@pytest.mark.slow
def test_a_round_exchanges_a_few_kilobytes(name, a_round, once, mesh):
    rows, size = 2**17, 512
    program = compiled(mesh, name, rows, size)
    exchanges = collectives(program)
    # Each exchange counts once: a pick makes it at most once, but where a second row is measured.
    assert 4 * size < sum(bytes_ for bytes_, in_loop, _ in exchanges if in_loop) < a_round
    assert sum(bytes_ for bytes_, in_loop, _ in exchanges if not in_loop) < once
    assert program.memory_analysis().temp_size_in_bytes < rows * size * 4 // 4, (
        "no device has room for the features of all"
    )


@pytest.mark.parametrize("inside", [True, False], ids=["in its mesh", "outside"])
def test_a_spread_pool_is_checked_where_it_lies(inside, mesh):
    features = jax.ShapeDtypeStruct((2**16, 64), jnp.float32, sharding=sharding.rows(mesh))
    with jax.set_mesh(mesh) if inside else nullcontext():
        for program, arguments in (
            (check.pools.feature_faults, (features, DEVICES)),
            (pools._checksums, ([features], (DEVICES,))),
        ):
            program = program.lower(*arguments).compile()
            assert all(bytes_ <= 2 * 4 * 64 for bytes_, *_ in collectives(program)), "a row or two"
            assert program.memory_analysis().temp_size_in_bytes < 2**16 * 64 * 4 // DEVICES


def test_a_spread_pool_has_the_checksums_and_faults_of_a_whole_one(mesh):
    features = np.ones((40 * DEVICES, 3), np.float32)
    spread = jax.device_put(features, sharding.rows(mesh))
    assert sharding.shares(spread) == DEVICES
    np.testing.assert_array_equal(pools.checksums(spread), pools.checksums(features))
    with pytest.raises(ValueError, match="every row equals row 0"):
        check.features(spread)
    features[-1, 1] = np.nan
    with pytest.raises(ValueError, match="row 319 has NaN"):
        check.features(jax.device_put(features, sharding.rows(mesh)))


@pytest.mark.slow
def test_the_posterior_never_gathers_the_pool_in_its_loops(mesh):
    rows = 2**17
    exchanges = collectives(compiled(mesh, "posterior", rows, 64))
    # The largest is one number for each row, at a look.
    assert max(bytes_ for bytes_, *_ in exchanges) <= rows * 4 + 64


@pytest.mark.nightly
def test_two_processes_with_half_the_pool_each_pick_what_one_with_all_of_it_picks():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(__file__).with_name("two_processes.py")
    runs = [
        subprocess.Popen(
            [sys.executable, program, str(process), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in (0, 1)
    ]
    told = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    first, second = (json.loads(output.splitlines()[-1]) for output, _ in told)
    assert first == second
    assert first.pop("refused").startswith(
        f"features must be finite, but row {two_processes.ROWS - 1} has NaN"
    )
    features, logits, labels = imbalanced_pool(two_processes.ROWS, 8, two_processes.CLASSES, 20)
    pool = balal.pool(features, logits=logits)
    assert first.pop("asked") == two_processes.asked(balal.strategy("random+balance"), pool, labels)
    for name, picks in first.items():
        result = balal.simulate(
            balal.strategy(name),
            pool,
            labels,
            budget=two_processes.BUDGET,
            num_classes=two_processes.CLASSES,
            key=jax.random.key(0),
        )
        assert picks == result.indices.tolist(), name


def test_rows_that_cannot_be_shared_out_are_refused(mesh):
    with (
        jax.set_mesh(mesh),
        pytest.raises(
            ValueError, match="a pool of 1003 rows cannot be shared by 8 devices: fill it up"
        ),
    ):
        balal.k_center(jnp.ones((ROWS, 2)), 3, start=0)


def test_a_mesh_of_another_kind_is_refused():
    explicit = jax.make_mesh(
        (2,), ("pool",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2]
    )
    with (
        jax.set_mesh(explicit),
        pytest.raises(ValueError, match=r"make the mesh with balal\.sharding\.mesh"),
    ):
        balal.k_center(jnp.ones((4, 2)), 3, start=0)


def test_a_mesh_without_the_axis_changes_nothing():
    other = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    with jax.set_mesh(other):
        assert sharding.devices() == 1
        assert balal.k_center(jnp.eye(3), 3, start=1).indices.tolist() == [1, 0, 2]


def test_what_fills_a_pool_up_is_never_a_candidate(mesh):
    pool = sharding.spread(mesh, Pool(jnp.ones((5, 2)), candidates=jnp.arange(5) > 0))
    assert pool.num_rows == DEVICES
    assert pool.candidates.tolist() == [False, True, True, True, True, False, False, False]
    assert {shard.data.shape for shard in pool.features.addressable_shards} == {(1, 2)}
