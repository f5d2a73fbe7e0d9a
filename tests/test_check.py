"""Bad input ends in one sentence that says what was expected, what came, and which rows are at
fault."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import balal
from balal import check

# The table is gone through once.
pytestmark = pytest.mark.xdist_group("faults")

SAID = {
    "features nan": "rows 3, 7 have NaN or infinite",
    "features inf": "row 3 has NaN or infinite",
    "features many nan": r"rows 0, 1, 2, 3, 4, ... (8 in all)",
    "features list": "must be a NumPy or JAX array, got list",
    "features strings": "real numbers",
    "features objects": "real numbers",
    "features complex": "real numbers",
    "features one axis": "[N, D], got shape (10,)",
    "features no columns": "at least one column",
    "features no rows": "empty",
    "features constant": "constant",
    "features missing": "needs features",
    "nothing at all": "empty",
    "logits nan": "row 2 is",
    "logits inf": "row 5 is",
    "logits all minus inf": "row 9 is",
    "logits are probs": "look like probabilities",
    "logits one axis": "[N, K] with at least one source class, got shape (10,)",
    "logits no classes": "[N, K] with at least one source class, got shape (10, 0)",
    "logits too few rows": "features has 10, scores.entropy has 7",
    "probs are logits": "were these logits?",
    "probs sum": "rows 1, 4 do not",
    "probs nan": "row 6 is not",
    "probs negative": "hold negative values",
    "logits and probs": "got logits and probs",
    "scores nan": "scores.entropy must be finite",
    "scores too few rows": "scores.entropy has 9",
    "scores missing": "needs scores",
    "candidates indices": "candidates has 2",
    "candidates none": "False everywhere",
    "candidates too few rows": "candidates has 4",
    "labels negative": "rows 2, 3 have others",
    "labels too large": "found 3 to 3",
    "labels float": "integers, got dtype float64",
    "labels one hot": "got shape (10, 3)",
    "labels too few": "[10], got shape (5,)",
    "budget above candidates": "budget=11 asks for more labels than the 10 candidates",
    "budget above those left": "more labels than the 8 candidates",
    "budget above mask": "more labels than the 3 candidates",
    "budget zero": "at least 1, got 0",
    "budget negative": "at least 1, got -3",
    "budget float": "whole number of at least 1, got 4.0",
    "budget bool": "whole number of at least 1, got True",
    "classes zero": "num_classes must be a whole number of at least 1",
    "key missing": "jax.random.key(seed)",
    "key seed": "jax.random.key(seed)",
    "key legacy": "legacy",
    "key several": "vmap over keys",
    "start duplicate": "row 1 is more than once",
    "start out of range": "0 to 9, but value 10 is outside",
    "start negative": "value -2 is outside",
    "start label": "row 1 has others",
    "start lengths": "[2], got shape (1,)",
    "start not a pair": "pair (indices, labels)",
    "start count": "count says 2 rows",
    "size zero": "at least 1, got 0",
    "size float": "got 2.0",
    "size above budget": "4 of 4 (0 answered, 0 pending)",
    "size above left": "1 of 4 (0 answered, 3 pending)",
    "told twice": "row 1 is more than once",
    "told never asked": "were never asked",
    "told float rows": "integers, got dtype float64",
    "told lengths": "[2], got shape (1,)",
    "told label too large": "balal.grow",
    "told label negative": "found -1 to -1",
    "told float labels": "integers, got dtype float64",
    "another strategy": "make a new one with balal.init",
    "shrunk classes": "grow only adds classes",
    "shrunk pool": "has 1 row and had 10",
    "not a pool": "balal.pool(features, logits=...)",
    "unknown strategy": "nearest known names are ent_inv_div",
    "unknown rule": "ent+balance",
    "two rules": "no strategy is called 'ent+balance+balance'",
    "unknown denominator": "'min', 'max', 'mean', 'none', got 'median'",
    "unknown at_mean": "got 'both'",
    "unknown known_classes": "got 'some'",
    "unknown ties": "got 'none'",
    "no patience": "at least 1, or None for endless patience, got 0",
    "budget times classes": "more than int32 holds",
    "score one axis": "[N, K]",
    "diversify shapes": "shapes (3,) and (4,)",
    "diversify budget": "between 0 and the 3 rows",
    "k_center nowhere": "somewhere to begin",
    "k_center budget": "between 0 and the 3 rows",
    "k_center one axis": "[N, D]",
    "posterior one axis": "[N, D]",
    "posterior landmarks": "landmarks at least 1 or None; got 1 and 0",
    "posterior start": "at least 0, got 1.5",
    "posterior typical": "between 0 and 1, got 2",
    "prepared without features": "needs features",
    "withdrawn never asked": "not pending; only a row that was asked and not answered",
    "withdrawn twice": "must be distinct",
    "restored but not withdrawn": "is not withdrawn",
    "told but withdrawn": "returned with balal.restore may",
    "budget shrunk": "the budget is 4, got budget=1",
    "budget extended in parts": "must be a whole number of at least 1, got 20.5",
    "pool has lost rows": "has 9 rows and had 10",
    "map of too few rows": "for each of the 10 old rows, got shape (2,)",
    "map out of range": "between 0 and 8",
    "map two to one": "rows 0, 1, 2, 3, 4 have more",
    "map loses a labelled row": "keep labelled rows in the pool",
    "strategy cannot be hashed": "@dataclass(frozen=True)",
    "strategy lacks a method": "without needs, init, ask, tell",
    "no file of a strategy": "there is no file nowhere.py",
    "no module of a strategy": "there is no module no_such_package.module",
    "no such attribute": "nearest names there are Random",
    "attribute is no strategy": "expected a strategy value",
    "class needs settings": "name an instance of it, Balanced = Balanced(...)",
    "neighbours none": "got shape (3, 2) and k=0",
    "posterior sharpness": "at least 1, got 0.5",
    "posterior noise": "above 0 and finite, got (2.0, 1.0, 0.5) and 0",
    "posterior target": "got (1.0, -1.0)",
    "posterior target length": "4 weights for 3 classes",
    "posterior first is a name": "use balal.strategy('ent')",
    "budget above capacity": "between 1 and the capacity, 4, got 5",
    "capacity in parts": "got 4.5",
    "budget in parts": "got 2.5",
    "budget of one axis": "got shape (2,); vmap over several",
    "strategy is a name": "use balal.strategy('ent')",
    "first is a name": "use balal.strategy('ent')",
    "strategy is a class": "without an instance",
    "name is no string": "looked up by its name, got 3",
    "unknown score": "got 'entropi'",
    "patience in parts": "got 2.5",
    "classes in parts": "got 7.5",
    "told labels too many": "[0], got shape (1,)",
    "told negative row": "0 to 9, but value -1 is outside",
    "start labels too many": "[0], got shape (1,)",
    "start nan": "row 2 has NaN",
    "features huge": "row 4 does not",
    "nothing to keep": "keep_logits=True keeps",
    "saved nowhere": "no folder /no/such/folder",
    "score nan": "NaN, +inf or -inf throughout, and row 2 is so",
    "entropy inf": "and row 4 is so",
    "diversify nan": "values must not be NaN, but row 3 is so",
    "diversify class too large": "value 2147483647 is outside",
    "diversify class in parts": "predicted must be integers, got dtype float64",
    "diversify short mask": "one entry for each of 10 rows, got (3,)",
    "diversify mask of numbers": "np.isin(np.arange(10), rows) if it holds rows",
    "diversify budget float": "whole number, got 2.0",
    "diversify budget bool": "whole number, got True",
    "diversify budget array": "budget must be a whole number",
    "diversify budget negative": "between 0 and the 10 rows",
    "k_center nan": "row 3 has NaN",
    "k_center inf": "rows 3, 4 have NaN",
    "k_center huge": "must lie within",
    "k_center all nan": "(10 in all) have NaN",
    "k_center labelled nan": "row 3 has NaN",
    "k_center labelled too large": "value 5000 is outside",
    "k_center labelled negative": "or -1 for none, but value -2 is outside",
    "k_center labelled in parts": "labelled must be integers, got dtype float64",
    "k_center labelled mask": "np.flatnonzero for the rows of a mask",
    "k_center labelled table": "[n], got shape (1, 2)",
    "k_center start too large": "start must be rows of the pool, 0 to 9, but value 10",
    "k_center start negative": "but value -1 is outside",
    "k_center start in parts": "start must be integers",
    "k_center start bool": "got dtype bool",
    "k_center several starts": "start must be one number",
    "k_center key legacy": "jax.random.key(seed)",
    "k_center short mask": "10 rows, got (9,)",
    "k_center mask of 0 and 1": "use .astype(bool) if it holds 0 and 1",
    "k_center budget float": "whole number, got 2.0",
    "k_center budget bool": "whole number, got True",
    "k_center budget negative": "between 0 and the 10 rows",
    "nearest nan": "row 3 has NaN",
    "nearest in parts": "k must be a whole number, got 1.5",
    "nearest among too large": "among must be rows of the pool, 0 to 9",
    "nearest among twice": "row 1 is more than once",
    "nearest among padding": "value -1 is outside",
    "nearest among none": "names no row",
    "nearest short mask": "got (3,)",
    "typicality nan": "row 3 has NaN",
    "typicality short mask": "got (3,)",
    "gradients too few logits": "got shapes (10, 3) and (9, 4)",
    "gradients seed": "jax.random.key(seed)",
    "bald of one model": "several heads",
    "bald inf": "row 3 is so",
    "votes nan": "row 3 is so",
    "boundaries of other classes": "a row for each of the 4 classes",
    "k_means nan": "row 3 has NaN",
    "k_means centers nan": "centers must be finite, but row 1 is not",
    "k_means rounds in parts": "got 1.5",
    "k_means++ nan": "row 3 has NaN",
    "k_means++ in parts": "k must be a whole number, got 2.0",
    "k_means++ seed": "jax.random.key(seed)",
    "posterior nan": "row 3 has NaN",
    "posterior capacity in parts": "got 2.5",
    "posterior row too large": "rows must be rows of the pool, 0 to 9",
    "posterior row in parts": "rows must be integers",
    "posterior row negative": "value -2 is outside",
    "posterior label too large": "labels must be classes, 0 to 2",
    "posterior labels too few": "got shapes (2,) and (1,)",
    "posterior row of none": "rows with a label must be rows of the pool",
    "posterior beyond capacity": "has room for 2 labels, its capacity, and would have 3",
    "posterior restricted": "value 10 is outside",
    "posterior worth": "each of 3 classes, got shape (2,)",
    "posterior sharpness in parts": "got 1.5",
    "choose no class": "wanted must be classes, 0 to 2, but value -1",
    "choose class too large": "value 3 is outside",
    "choose short mask": "10 rows, got (9,)",
    "choose over rows": "over must be a boolean mask",
    "misses label too large": "labels must be classes, 0 to 2, or -1",
    "misses lengths": "got shapes (2,) and (1,)",
    "wanted shares": "counts must be integers",
    "wanted lengths": "got shapes (2,), (1,), (2,)",
    "switch shares": "counts must be integers",
    "switch table": "got shape (1, 2)",
    "bits of a seed": "jax.random.key(seed)",
    "bits in parts": "got 3.0",
    "counts of parts": "labels must be integers",
    "counts beyond int32": "value 4294967296 is not",
    "predictions are scores": "predicted must be integers",
    "imbalance of a number": "counts must have one axis or more",
    "sizes in parts": "sizes must be integers",
    "budget of a class in parts": "size must be a whole number, got 2.5",
    "subsample in parts": "labels must be integers",
    "loss of no class": "labels must be classes, 0 to 2",
    "pseudo-labels nan": "probabilities must be finite",
    "head of parts": "labels must be integers",
    "head of complex": "real numbers, got dtype complex128",
    "features beyond float32": "row 4 has NaN or infinite",
    "pool of scores beyond float32": "scores.margin must be finite",
    "labels beyond int32": "value 4294967296 is not",
    "rows beyond int64": "value 18446744073709551615 is not",
    "rows beyond int32": "value 4294967296 is not",
    "start of two axes": "[n], got shape (1, 2)",
    "spread of big endian": "make the pool with balal.pool",
    "spread of masked": "got MaskedArray",
    "pool of whole numbers": "floating-point numbers, got dtype int64",
    "pool of half scores": "scores.margin must be a NumPy or JAX array, got NoneType",
    "pool of loose scores": "must be balal.Scores, got ndarray",
    "asked of no pool": "expected a balal.Pool, got ndarray",
    "classes are names": "np.unique(names, return_inverse=True)[1]",
    "labels are flags": "use .astype(int) for classes 0 and 1",
    "features hold None": "row 3 holds 'None'",
    "check indices axes": "got shape (1, 1)",
    "check many indices": "(17 in all)",
}


@pytest.fixture(scope="module")
def outcomes():
    """What a user without any type checker is told."""
    program = Path(__file__).parent / "bad_inputs.py"
    run = subprocess.run(
        [sys.executable, "-W", "error", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(run.stdout)


def test_every_fault_of_the_table_has_its_sentence(outcomes):
    assert set(outcomes["faults"]) == set(SAID)


def test_arrays_of_any_kind_are_converted_or_refused_in_a_sentence_wherever_they_are_taken(
    outcomes,
):
    assert len(outcomes["arrays"]) > 50
    assert {place: wrong for place, wrong in outcomes["arrays"].items() if wrong} == {}


@pytest.mark.parametrize("name", SAID)
def test_a_fault_ends_in_one_value_error_that_says_what_is_wrong(outcomes, name):
    kind, message, seconds = outcomes["faults"][name]
    assert kind == ("FileNotFoundError" if name == "saved nowhere" else "ValueError"), (
        f"{kind}: {message}"
    )
    assert SAID[name] in message
    assert "\n" not in message
    assert seconds < 3, "a fault is told before anything large is compiled"


def test_rows_that_are_no_candidates_may_hold_anything():
    features = np.ones((4, 2), np.float32)
    features[1], features[3] = 2, np.nan
    pool = balal.pool(features, candidates=np.array([True, True, True, False]))
    assert pool.num_rows == 4


@pytest.mark.parametrize("size", [3, 16, 64, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_nan_is_reported_in_rows_of_any_width(size, dtype):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, size)).astype(dtype)
    logits[2, size // 2] = np.nan
    with pytest.raises(ValueError, match=r"logits may be -inf but not NaN.* row 2 is so"):
        balal.pool(None, logits=logits)
    with pytest.raises(ValueError, match="features must be finite, but row 2 has NaN"):
        balal.pool(logits)
    probs = np.full((300, size), 1 / size, np.float32)
    probs[2, size // 2] = np.nan
    with pytest.raises(ValueError, match="probs must be finite, and row 2 is not"):
        balal.pool(None, probs=probs)


def test_features_are_constant_only_where_all_rows_are():
    features = np.ones((300, 5), np.float32)
    with pytest.raises(ValueError, match="features are constant"):
        balal.check.pool(balal.pool(features), needs=("features",))
    features[299] = 2
    balal.check.pool(balal.pool(features), needs=("features",))


def test_probabilities_in_bfloat16_sum_to_1_as_well_as_they_can():
    probs = np.random.default_rng(0).dirichlet(np.ones(7), 60).astype(np.float32)
    balal.pool(None, probs=jnp.asarray(probs, jnp.bfloat16))
    with pytest.raises(ValueError, match="every row of probs must sum to 1"):
        balal.pool(None, probs=jnp.asarray(0.98 * probs, jnp.bfloat16))


def test_features_that_differ_too_little_or_too_much_to_be_squared_are_refused():
    features = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    features[250] = np.nan
    pool = partial(balal.pool, candidates=np.arange(300) != 250)
    for exponent in (-35, 40):
        balal.check.pool(pool(np.ldexp(features, exponent)), needs=("features",))
    for exponent, column in ((-50, 0), (-110, 0), (-66, 1e8)):
        little = np.ldexp(features, exponent)
        little[:, 0] = column
        with pytest.raises(
            ValueError, match=r"features differ by .* at most.* by 2\.0\*\*"
        ) as said:
            balal.check.pool(pool(little), needs=("features",))
        factor = int(str(said.value).rpartition("**")[2])
        little[:, 0] = 0
        balal.check.pool(pool(np.ldexp(little, factor)), needs=("features",))
    features[7] = 3e16
    with pytest.raises(ValueError, match=r"must lie within 2\.6e\+16, so that .* row 7 does not"):
        pool(features)


def test_a_big_endian_array_is_read_right_after_a_native_one_of_its_shape():
    logits = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    native = balal.entropy(logits)
    np.testing.assert_array_equal(balal.entropy(logits.astype(">f4")), native)
    np.testing.assert_array_equal(
        balal.pool(None, logits=logits.astype(">f4")).scores.entropy, native
    )


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_large_whole_numbers_keep_their_size_as_features(dtype):
    features = np.array([[2**40, 1], [3, 2**35]], dtype)
    np.testing.assert_array_equal(balal.pool(features).features, features.astype(np.float32))


def test_a_plain_array_comes_back_as_it_is():
    for plain in (np.ones(3, np.float32), jnp.ones(3), np.arange(3, dtype=np.int32)):
        assert check.array("values", plain) is plain


def test_kernels_can_be_jitted_and_vmapped_with_their_checks():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(2, 10, 3)), jnp.float32)
    alone = [balal.k_center(table, 3, start=0).indices for table in features]
    together = jax.vmap(lambda table: balal.k_center(table, 3, start=0).indices)(features)
    np.testing.assert_array_equal(together, alone)
    jitted = jax.jit(balal.k_center, static_argnames="budget")
    # What is known is checked where a jit around it only traces.
    rows = jnp.array([10], jnp.int8)
    with pytest.raises(ValueError, match="value 10 is outside"):
        jax.eval_shape(lambda table: balal.k_center(table, 3, labelled=rows), features[0])
    np.testing.assert_array_equal(jitted(features[0], 3, start=jnp.int32(0)).indices, alone[0])


def test_inputs_are_left_as_they_were():
    features, logits = np.arange(12.0).reshape(6, 2), np.arange(18.0).reshape(6, 3)
    before = features.copy(), logits.copy()
    features.flags.writeable = logits.flags.writeable = False
    balal.pool(features, logits=logits)
    np.testing.assert_array_equal(features, before[0])
    np.testing.assert_array_equal(logits, before[1])


@pytest.mark.parametrize(
    "layout", ["fortran", "strided", "big endian", "integers", "memory mapped"]
)
def test_arrays_of_any_layout_are_taken(layout, tmp_path):
    logits = np.random.default_rng(0).integers(-5, 5, (12, 4)).astype(np.float32)
    np.save(tmp_path / "logits.npy", logits)
    given = {
        "fortran": np.asfortranarray(logits),
        "strided": np.repeat(logits, 2, axis=0)[::2],
        "big endian": logits.astype(">f4"),
        "integers": logits.astype(np.int32),
        "memory mapped": np.load(tmp_path / "logits.npy", mmap_mode="r"),
    }[layout]
    np.testing.assert_array_equal(
        balal.pool(logits, logits=given).scores.entropy, balal.entropy(jnp.asarray(logits))
    )


def test_large_host_arrays_are_scored_in_blocks_and_faults_keep_their_row(monkeypatch):
    monkeypatch.setattr("balal.pools._BLOCK", 5)
    logits = np.random.default_rng(0).normal(size=(13, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        balal.pool(None, logits=logits).scores.margin, balal.margin(jnp.asarray(logits))
    )
    logits[11] = np.nan
    with pytest.raises(ValueError, match="row 11 is so"):
        balal.pool(None, logits=logits)


def test_probabilities_of_a_certain_model_are_taken():
    scores = balal.pool(None, probs=np.eye(4, dtype=np.float16)).scores
    assert scores.entropy.tolist() == [0.0] * 4
    assert scores.predicted.tolist() == [0, 1, 2, 3]
