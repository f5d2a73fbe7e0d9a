"""What a million rows would take, looked up in programs that are never run, and picks that depend
on nothing but pool and key."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pick_anywhere
import pytest

import balal
from balal import check, pools
from balal.kernels import class_means, gaussian_process, k_means, neighbours, typicality

# Sizes of which no two are alike, so that an array of b x N is no array of C x N or N x D.
ROWS, SIZE, SOURCE_CLASSES, CLASSES, BUDGET, CLUSTERS = 1_000_000, 512, 300, 100, 2_000, 400
LANDMARKS = 1_024


def shaped(*shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


FEATURES, HALVES, LOGITS = (
    shaped(ROWS, SIZE),
    shaped(ROWS, SIZE, dtype=jnp.bfloat16),
    shaped(ROWS, SOURCE_CLASSES),
)
COLUMN, LABELS, MASK = shaped(ROWS), shaped(ROWS, dtype=jnp.int32), shaped(ROWS, dtype=jnp.bool_)
KEY = jax.eval_shape(lambda: jax.random.key(0))
NUMBER, SOME_ROWS = shaped(dtype=jnp.int32), shaped(16, dtype=jnp.int32)


def k_center(features, labelled, candidates, key):
    return balal.k_center(features, BUDGET, labelled=labelled, candidates=candidates, key=key)


def balancing(features, means, wanted, over, candidates):
    return class_means.choose(
        class_means.begin(features, num_classes=CLASSES), features, means, wanted, over, candidates
    )


def process_program(landmarks):
    def program(features, rows, labels, worth, candidates):
        process = gaussian_process.begin(
            features,
            capacity=BUDGET,
            num_classes=CLASSES,
            candidates=candidates,
            landmarks=landmarks,
        )
        process = gaussian_process.update(process, rows, labels)
        return (
            gaussian_process.utility(process, worth, 1.0),
            gaussian_process.explain(process),
            gaussian_process.restrict(process, rows),
        )

    return program


def simulate(name):
    def program(features, logits, labels, candidates, key):
        pool = balal.Pool(features, scores=balal.score(logits), candidates=candidates)
        return balal.simulate(
            balal.strategy(name), pool, labels, budget=BUDGET, num_classes=CLASSES, key=key
        ).indices

    return program


SIMULATION = FEATURES, LOGITS, LABELS, MASK, KEY
PROCESS = FEATURES, SOME_ROWS, SOME_ROWS, shaped(CLASSES), MASK
# Each with the numbers a row that its largest array may hold, as its docstring says: 1 is a column.
PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], int]] = {
    "k_center": (k_center, (FEATURES, SOME_ROWS, MASK, KEY), 1),
    "k_center, half precision": (k_center, (HALVES, SOME_ROWS, MASK, KEY), 1),
    "k_center, plain passes": (
        lambda features: balal.k_center(features, 1, start=0),
        (FEATURES,),
        1,
    ),
    "score": (balal.score, (LOGITS,), 1),
    "diversify": (
        lambda *row: balal.diversify(*row[:2], BUDGET, candidates=row[2]),
        (COLUMN, LABELS, MASK),
        2,
    ),
    "nearest": (
        lambda features, mask: neighbours.nearest(features, 20, candidates=mask),
        (FEATURES, MASK),
        SIZE,
    ),
    "typicality": (
        lambda features, mask: typicality.typicality_ranks(features, candidates=mask),
        (FEATURES, MASK),
        SIZE,
    ),
    "k_means": (k_means.k_means, (FEATURES, shaped(CLUSTERS, SIZE)), SIZE),
    "k_means_plus_plus": (
        lambda key, features: k_means.k_means_plus_plus(key, features, CLUSTERS),
        (KEY, FEATURES),
        SIZE,
    ),
    "bounds": (
        balancing,
        (FEATURES, shaped(CLASSES, SIZE), NUMBER, shaped(CLASSES, dtype=jnp.bool_), MASK),
        CLASSES,
    ),
    "posterior": (process_program(None), PROCESS, SIZE),
    "posterior, landmarks": (process_program(LANDMARKS), PROCESS, LANDMARKS),
    "simulate random": (simulate("random"), SIMULATION, 2),
    "simulate ent_inv_div": (simulate("ent_inv_div"), SIMULATION, 2),
    "simulate core_set": (simulate("core_set"), SIMULATION, 1),
    "simulate core_set+balance": (simulate("core_set+balance"), SIMULATION, CLASSES),
    "simulate random+posterior": (simulate("random+posterior"), SIMULATION, LANDMARKS),
}


def arrays(program: Any) -> list[jax.core.ShapedArray]:
    """All that the equations of a program make, those of its loops and branches included; of what
    depends on the platform, the CPU's."""
    if isinstance(program, list | tuple):
        return [array for part in program for array in arrays(part)]
    program = getattr(program, "jaxpr", program)
    found = []
    for equation in getattr(program, "eqns", []):
        # A barrier passes on what it is given.
        if equation.primitive.name != "optimization_barrier":
            found += [variable.aval for variable in equation.outvars]
        parts = dict(equation.params)
        if platforms := parts.get("branches_platforms"):
            parts["branches"] = [
                branch
                for names, branch in zip(platforms, parts["branches"], strict=True)
                if "cpu" in (names or ["cpu"])
            ][:1]
        found += arrays(list(parts.values()))
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_array_of_a_million_rows_is_larger_than_promised(name):
    program, arguments, width = PROGRAMS[name]
    found = arrays(jax.make_jaxpr(program)(*arguments))
    largest = max(found, key=lambda array: array.size)
    # A little more, for what fills up the last block, and for small tables beside a column.
    assert largest.size < 1.1 * ROWS * width, f"an array {largest.str_short()}"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_checks_and_checksums_of_a_million_rows_copy_no_features(dtype):
    features = shaped(ROWS, SIZE, dtype=dtype)
    programs = (
        check.pools.feature_faults,
        check.pools._logit_faults,
        lambda rows, _: pools.checksums(rows),
    )
    for program in programs:
        compiled = jax.jit(program, static_argnums=1).lower(features, 1).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 4 * 4 * ROWS


def test_arrays_are_found_in_loops_branches_and_functions_but_not_in_those_of_other_platforms():
    def wide(rows, width):
        return jnp.sum(jnp.broadcast_to(rows[:, None], (ROWS, width)))

    def program(rows):
        looped = jax.lax.fori_loop(
            0, jnp.int32(rows[0]), lambda _, total: total + wide(rows, 7), 0.0
        )
        branched = jax.lax.cond(
            rows[0] > 0, lambda: jax.jit(wide, static_argnums=1)(rows, 11), lambda: 0.0
        )
        vmapped = jax.lax.map(
            jax.custom_batching.sequential_vmap(lambda row: wide(rows, 13) + row), rows[:2]
        )
        return (
            looped,
            branched,
            vmapped,
            jax.lax.platform_dependent(cpu=lambda: wide(rows, 17), default=lambda: wide(rows, 19)),
        )

    widths = {
        array.shape[1]
        for array in arrays(jax.make_jaxpr(program)(COLUMN))
        if len(array.shape) == 2 and array.shape[0] == ROWS
    }
    assert widths >= {7, 11, 13, 17}
    assert 19 not in widths


@pytest.mark.parametrize("name", ["k_center", "nearest", "typicality", "k_means_plus_plus"])
def test_that_all_rows_may_be_asked_is_hidden_from_the_compiler(name):
    """It works out what follows from constants, which takes ten seconds for a million rows, unless
    it cannot see that they are constant."""
    programs = {
        "k_center": lambda features: balal.k_center(features, 9, start=0),
        "nearest": lambda features: neighbours.nearest(features, 3),
        "typicality": typicality.typicality_ranks,
        "k_means_plus_plus": lambda features: k_means.k_means_plus_plus(
            jax.random.key(0), features, 9
        ),
    }
    text = jax.jit(programs[name]).lower(shaped(ROWS, 2)).as_text()
    masks = re.findall(
        rf"(%\w+) = stablehlo.broadcast_in_dim %c\w*, dims = \[\] : \(tensor<i1>\) -> "
        rf"tensor<{ROWS}xi1>",
        text,
    )
    uses = {
        mask: re.findall(rf"^.* = (\S+) .*{re.escape(mask)}\b", text, flags=re.M) for mask in masks
    }
    assert any("stablehlo.optimization_barrier" in used for used in uses.values()), uses


@pytest.fixture(scope="module")
def drawn():
    """Features, logits, labels, and the picks of everything from them as they are."""
    features, logits, labels = pick_anywhere.drawn()
    return (
        features,
        logits,
        labels,
        pick_anywhere.picks(balal.pool(features, logits=logits, keep_logits=True), labels),
    )


@pytest.mark.slow
@pytest.mark.xdist_group("picks of everything")
@pytest.mark.parametrize(("scale", "offset"), [(2.0**-36, 0), (2.0**40, 0), (1, 100), (1, 10_000)])
def test_neither_scale_nor_offset_of_the_features_changes_a_pick(drawn, scale, offset):
    """Powers of two and whole numbers: what float32 tells apart is the same before and after."""
    features, logits, labels, expected = drawn
    changed = features * np.float32(scale) + np.float32(offset)
    pool = balal.pool(changed, logits=logits, keep_logits=True)
    found = pick_anywhere.picks(pool, labels)
    # What is no distance between features is no longer the same with an offset.
    others = {"badge"} if offset else set()
    assert {name for name in expected if found[name] != expected[name]} <= others


@pytest.mark.slow
@pytest.mark.xdist_group("picks of everything")
@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(
            dict(
                NPROC="1" if len(os.sched_getaffinity(0)) > 1 else "4",
                PYTHONHASHSEED="12345",
            ),
            marks=pytest.mark.nightly,
        ),
        dict(
            JAX_ENABLE_X64="1",
            JAX_NUMPY_DTYPE_PROMOTION="strict",
            JAX_NUMPY_RANK_PROMOTION="raise",
            JAX_DEBUG_NANS="1",
        ),
    ],
    ids=["other threads and hashes", "double precision enabled, promotion not"],
)
def test_another_process_device_and_environment_change_no_pick(drawn, environment):
    program = os.path.join(os.path.dirname(__file__), "pick_anywhere.py")
    run = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=os.environ | environment,
    )
    found, expected = json.loads(run.stdout), drawn[-1]
    assert [name for name in expected if found[name] != expected[name]] == []
