"""The detours around the compiler: each gives what the plain operation does, without copies."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import balal
from balal import strategy, xla

linux = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="this system has no such limit"
)


def extra_memory(function, *arguments) -> int:
    """Bytes beside arguments and results that the compiled function needs."""
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@linux
def test_programs_are_forgotten_once_half_of_the_memory_maps_are_used(monkeypatch, tmp_path):
    forgotten = []
    monkeypatch.setattr(xla, "_MOST_MAPS", tmp_path / "most")
    monkeypatch.setattr(jax, "clear_caches", lambda: forgotten.append(True))
    xla.make_room()
    assert not forgotten, "a system that names no limit has none"
    maps = Path("/proc/self/maps").read_bytes().count(b"\n")
    xla._MOST_MAPS.write_text(f"{3 * maps}")
    xla.make_room()
    assert not forgotten
    xla._MOST_MAPS.write_text(f"{3 * maps // 2}")
    xla.make_room()
    assert len(forgotten) == 1
    xla._MOST_MAPS.write_text(f"{maps}")
    with pytest.raises(RuntimeError, match=rf"Linux allows it {maps}, so compiling"):
        xla.make_room()


@linux
@pytest.mark.parametrize("call", [balal.one_shot, balal.init])
def test_there_is_room_before_anything_is_compiled(call, monkeypatch, tmp_path):
    pool = balal.pool(None, logits=jnp.outer(jnp.arange(4.0), jnp.eye(2)[0]))
    labels = dict(labels=np.zeros(4, int)) if call is balal.one_shot else {}
    monkeypatch.setattr(xla, "_MOST_MAPS", tmp_path / "most")
    monkeypatch.setattr(jax, "clear_caches", lambda: None)
    xla._MOST_MAPS.write_text("100")
    with pytest.raises(RuntimeError, match="Linux allows it 100"):
        call(strategy("ent"), pool, **labels, budget=4, num_classes=1, key=jax.random.key(0))


@pytest.mark.parametrize("condition", [False, True])
def test_run_if_is_a_branch(condition):
    table = {"a": jnp.arange(3.0), "b": jnp.int32(4)}

    def change(table, step):
        return {"a": table["a"] + step, "b": table["b"] + 1}

    found = jax.jit(lambda condition: xla.run_if(condition, change, table, jnp.ones(3)))(
        jnp.array(condition)
    )
    expected = change(table, jnp.ones(3)) if condition else table
    assert jax.tree.map(np.array_equal, found, expected) == {"a": True, "b": True}


def test_work_that_begins_with_the_inputs_stays_inside_run_if():
    table, values = jnp.zeros(1000), jnp.ones(1000)

    def run(condition, table, values):
        return xla.run_if(condition, lambda table, values: table + jnp.exp(values), table, values)

    room = extra_memory(run, jnp.array(False), table, values)
    assert room < values.nbytes, "what is worked out ahead needs room of its own"


def test_after_changes_no_value():
    for value in (2.5, jnp.float16(0.1), jnp.arange(3), -jnp.inf, jnp.nan):
        found = xla.after(value, jnp.float32(3))
        np.testing.assert_array_equal(found, value)
        assert found.dtype == jnp.asarray(value).dtype


@pytest.mark.parametrize("num_rows", [1, 2, 3, 7, 8])
def test_map_tiles_is_the_call_however_the_last_tile_lies(num_rows):
    table, weights = jnp.arange(4.0 * num_rows).reshape(num_rows, 4), jnp.arange(1.0, num_rows + 1)

    def weighted(rows, weights):
        return {"sum": jnp.sum(rows, axis=1) * weights, "max": jnp.max(rows, axis=1)}

    found = jax.jit(lambda table: xla.map_tiles(weighted, table, weights, height=3))(table)
    expected = weighted(table, weights)
    assert jax.tree.map(np.array_equal, found, expected) == {"sum": True, "max": True}
    np.testing.assert_array_equal(
        xla.map_tiles(jnp.transpose, table, height=3, axis=1), jnp.transpose(table)
    )


@pytest.mark.parametrize("num_rows", [1, 2, 3, 7, 8])
def test_sum_tiles_counts_every_row_once(num_rows):
    table = jnp.arange(4 * num_rows).reshape(num_rows, 4)
    found = jax.jit(
        lambda table: xla.sum_tiles(lambda rows, at: rows * at[:, None], table, height=3)
    )(table)
    assert found == jnp.sum(table * jnp.arange(num_rows)[:, None])


@pytest.mark.parametrize("num_rows", [1, 2, 3, 7, 8])
def test_all_tiles_sees_every_row(num_rows):
    rows = jnp.arange(num_rows)
    found = jax.jit(jax.vmap(lambda odd: xla.all_tiles(lambda tile: tile != odd, rows, height=3)))(
        jnp.arange(-1, num_rows)
    )
    assert found.tolist() == [True] + num_rows * [False]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_tiles_of_a_table_are_read_where_they_lie(dtype):
    table = jax.ShapeDtypeStruct((10_000, 400), dtype)

    def largest(rows):
        return jnp.max(jnp.abs(rows.astype(jnp.float32)), axis=1)

    for function in (
        lambda table: xla.map_tiles(largest, table, height=10),
        lambda table: xla.sum_tiles(lambda rows, _: (rows > 0.5).astype(int), table, height=10),
        lambda table: xla.all_tiles(lambda rows: rows > 0.5, table, height=10),
    ):
        assert extra_memory(function, table) < 100 * 400 * 4


@pytest.mark.parametrize("num_rows", [1, 2, 3, 7, 8])
def test_update_tiles_changes_every_row_once(num_rows):
    table, steps = jnp.zeros((num_rows, 2)), jnp.arange(2.0 * num_rows).reshape(num_rows, 2)
    found = jax.jit(lambda table: xla.update_tiles(jnp.add, table, steps, height=3))(table)
    np.testing.assert_array_equal(found, steps)
    found = xla.update_tiles(
        lambda rows, steps: rows + steps.T, table, jnp.transpose(steps), height=3, axis=1
    )
    np.testing.assert_array_equal(found, steps)


def test_update_tiles_makes_no_second_table():
    table, left, right = jnp.zeros((64, 4096)), jnp.ones((64, 3)), jnp.ones((3, 4096))

    def again(table):
        def add(_, table):
            return xla.update_tiles(
                lambda rows, left: rows + jnp.matmul(left, right), table, left, height=8
            )

        return jax.lax.fori_loop(0, 2, add, table)

    assert extra_memory(again, table) < table.nbytes / 4


def test_opaque_changes_no_value():
    np.testing.assert_array_equal(jax.jit(xla.opaque)(jnp.arange(3)), jnp.arange(3))


MANY_SIMULATIONS = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
import balal
from balal import xla
def maps():
    return Path("/proc/self/maps").read_bytes().count(b"\\n")
Path(sys.argv[1]).write_text(str(maps() + 2400))
xla._MOST_MAPS, most = Path(sys.argv[1]), 0
for number in range(12):
    pool = balal.pool(None, logits=jnp.outer(jnp.arange(20.0 + number), jnp.eye(2)[0]))
    labels = np.zeros(pool.num_rows, int)
    options = dict(budget=4 + number, num_classes=2 + number, key=jax.random.key(0))
    balal.simulate(balal.strategy("ent"), pool, labels, **options)
    most = max(most, maps())
print(most, int(xla._MOST_MAPS.read_text()))
"""


@linux
@pytest.mark.slow
def test_any_number_of_different_simulations_stay_below_the_limit_of_memory_maps(tmp_path):
    """Under a limit of a few thousand, as under that of Linux many hundreds would be needed."""
    command = [sys.executable, "-c", MANY_SIMULATIONS, tmp_path / "most"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used, most = map(int, printed.split())
    assert used < 0.75 * most
