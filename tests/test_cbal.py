"""Class-balanced batches: documented cases, bounds of a solver of mixed-integer programs, and the
k-center form against a twin."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import balal
from balal import labelled_set
from balal.kernels.balanced_k_center import balanced_k_center
from balal.kernels.class_balance import balanced_batch, deficits
from balal.strategies.base import Names
from balal.strategies.cbal import Cbal, CbalCoreSet, certificate

VECTORS = json.loads((Path(__file__).parent / "vectors/cbal.json").read_text())
PROBS = np.array(VECTORS["batch"]["probs"], np.float32)
ENTROPY = -(np.float64(PROBS) * np.log(PROBS)).sum(axis=1)
NUM_ROWS, NUM_CLASSES, MOST = 40, 5, 8


def instance(seed):
    """A pool with skewed predictions, and what its classes are short of."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1.0, NUM_CLASSES + 1)
    probs = rng.dirichlet(shares, size=NUM_ROWS).astype(np.float32)
    probs /= probs.sum(axis=1, keepdims=True)
    values = (probs * np.log(np.maximum(probs, 1e-12))).sum(axis=1)
    counts = rng.multinomial(MOST * (seed % 3), shares / shares.sum())
    return values, probs, np.asarray(deficits(counts, MOST))


def batch_of(values, probs, short, *, weight, candidates=None):
    """One program for all: budget and weight are data."""
    everywhere = np.ones(len(values), bool)
    return balanced_batch(
        values,
        probs,
        short,
        jnp.int32(MOST),
        weight=weight,
        candidates=everywhere if candidates is None else candidates,
        most=MOST,
    )


def asked(strategy, rows, labels, *, budget=2, num_classes=3):
    """What a strategy plans after some answers, by the documented predictions."""
    pool = balal.pool(None, probs=PROBS, keep_logits=True)
    labelled = labelled_set.make(np.array(rows), np.array(labels), capacity=len(rows) + budget)
    memory = strategy.init(pool, labelled, budget, num_classes, jax.random.key(0))
    return strategy.batch(pool, memory, most=3)


@pytest.mark.parametrize("case", VECTORS["batch"]["cases"], ids=str)
def test_documented_batches_are_found_with_a_valid_bound(case):
    short = deficits(np.array(case["counts"]), case["budget"], target=np.array(case["target"]))
    np.testing.assert_allclose(short, case["deficits"], atol=1e-6)
    budget = jnp.int32(case["budget"])
    batch = balanced_batch(
        -ENTROPY,
        PROBS,
        short,
        budget,
        weight=case["weight"],
        candidates=np.ones(6, bool),
        most=3,
    )
    assert sorted(batch.indices[: case["budget"]].tolist()) == case["picks"]
    assert batch.indices[case["budget"] :].tolist() == [-1] * (3 - case["budget"])
    assert float(batch.objective) == pytest.approx(case["objective"], abs=2e-6)
    assert case["bound"] - 1e-3 <= float(batch.bound) <= case["bound"] + 2e-6
    assert float(batch.gap) == pytest.approx(batch.objective - batch.bound, abs=2e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_the_optimum_lies_within_the_gap(seed, weight):
    values, probs, short = instance(seed)
    batch = batch_of(values, probs, short, weight=weight)
    rows = batch.indices.tolist()
    assert len(set(rows)) == MOST
    cost = reference.cost_of_batch(values, probs, short, weight, rows)
    whole, in_part = reference.best_batch(values, probs, short, MOST, weight)
    scale = np.abs(values[rows]).sum() + weight * (short.sum() + MOST)
    assert float(batch.objective) == pytest.approx(cost, abs=1e-6 * scale)
    assert cost >= whole - 1e-6 * scale
    # No bound is higher than the linear program, and this one is nearly as high.
    assert in_part - 2e-4 * scale <= float(batch.bound) <= in_part + 1e-6 * scale
    assert 0 <= float(batch.gap) <= 0.05 * scale


def test_no_exchange_of_two_rows_improves_a_batch():
    values, probs, short = instance(2)
    batch = batch_of(values, probs, short, weight=2.0)
    rows = batch.indices.tolist()
    others = set(range(NUM_ROWS)) - set(rows)
    least = min(
        reference.cost_of_batch(values, probs, short, 2.0, {*rows, new} - {old})
        for old in rows
        for new in others
    )
    assert least >= float(batch.objective) - 1e-4


def test_rows_come_in_the_order_of_what_they_are_worth():
    values, probs, short = instance(1)
    batch = batch_of(values, probs, short, weight=2.0)
    rows = batch.indices.tolist()
    rises = [reference.cost_of_batch(values, probs, short, 2.0, set(rows) - {row}) for row in rows]
    np.testing.assert_array_less(np.diff(rises), 1e-5)


def test_without_weight_the_most_uncertain_rows_are_asked():
    values, probs, short = instance(0)
    batch = batch_of(values, probs, short, weight=0.0)
    assert batch.indices.tolist() == np.argsort(values)[:MOST].tolist()
    assert float(batch.gap) < 1e-5


@pytest.mark.parametrize("free", [0, 1, 5, 8])
def test_too_few_candidates_are_all_asked_and_nothing_could_be_better(free):
    values, probs, short = instance(0)
    candidates = np.zeros(NUM_ROWS, bool)
    candidates[:free] = True
    # Other rows may hold anything.
    values, probs = np.where(candidates, values, np.nan), probs.copy()
    probs[free:] = np.nan
    batch = batch_of(values, probs, short, weight=2.0, candidates=candidates)
    assert sorted(batch.indices.tolist()) == [-1] * (MOST - free) + list(range(free))
    assert 0 <= float(batch.gap) < 1e-4


def test_equal_rows_are_asked_from_the_lowest_on():
    values, probs, short = instance(0)
    values, probs = np.full_like(values, values[0]), np.broadcast_to(probs[:1], probs.shape)
    batch = batch_of(values, probs, short, weight=2.0)
    assert batch.indices.tolist() == list(range(MOST))


def test_more_weight_gives_more_balance():
    values, probs, short = instance(1)
    imbalance = [
        reference.cost_of_batch(
            0 * values, probs, short, 1.0, batch_of(values, probs, short, weight=weight).indices
        )
        for weight in (0.0, 0.5, 2.0)
    ]
    assert imbalance == sorted(imbalance, reverse=True)
    assert imbalance[0] > imbalance[2] + 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(probs=PROBS + 0.1), "every row of probs must sum to 1, but rows 0, 1, 2"),
        (dict(deficits=np.array([1.0, -2, 0])), "deficits must not be negative, but the least is"),
        (dict(weight=-1.0), "weight must not be negative"),
        (dict(weight=np.nan), "weight must be finite, but row 0 is not"),
        (dict(budget=7), "budget must lie between 0 and most, and most not above the 6 rows"),
        (dict(budget=4, most=3), "budget must lie between 0 and most"),
    ],
)
def test_what_cannot_be_balanced_is_refused(wrong, sentence):
    given = dict(values=-ENTROPY, probs=PROBS, deficits=np.ones(3), budget=2, weight=1.0) | wrong
    options = {name: given.pop(name) for name in ("weight", "most") if name in given}
    with pytest.raises(ValueError, match=sentence):
        balanced_batch(*given.values(), **options)


@pytest.mark.parametrize("case", VECTORS["k_center"]["cases"], ids=str)
def test_documented_centres_are_found(case):
    given = VECTORS["k_center"]
    picks = balanced_k_center(
        np.array(given["features"]),
        np.array(given["probs"]),
        np.array(given["deficits"]),
        3,
        weight=case["weight"],
        relative=False,
        labelled=np.array(given["labelled"]),
    )
    assert picks.tolist() == case["picks"]


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("labelled", [[3, 8], []])
def test_the_k_center_form_is_that_of_its_twin(relative, labelled):
    for seed in range(3):
        _, probs, short = instance(seed)
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(NUM_ROWS, 3)).astype(np.float32)
        candidates = rng.random(NUM_ROWS) < 0.6
        found = balanced_k_center(
            features,
            probs,
            short,
            jnp.int32(6),
            weight=0.5,
            relative=relative,
            labelled=np.array([*labelled, -1, -1][:2]),
            candidates=candidates,
            most=MOST,
        ).tolist()
        given = features, probs, short, 6, 0.5, labelled, candidates, relative
        # All first picks may be equal, of which the twin may take another one.
        if labelled or short.min() == 0:
            assert found == [*reference.balanced_k_center(*given), -1, -1]


def test_where_all_features_are_equal_the_classes_decide():
    _, probs, _ = instance(0)
    options = dict(labelled=np.array([0]), weight=0.5, most=1)
    picks = balanced_k_center(
        np.ones((NUM_ROWS, 2)), probs, np.array([0, 0, 0, 0, 9.0]), jnp.int32(1), **options
    )
    assert picks.tolist() == [1 + int(np.argmax(probs[1:, 4]))]


# The strategies.


def test_a_class_without_a_label_is_asked_for():
    batch = asked(Cbal(), [0, 1], [0, 0])
    assert sorted(batch.indices.tolist()) == [-1, 3, 4]
    assert float(batch.gap) == pytest.approx(0, abs=1e-5)


def test_a_target_is_followed():
    for wanted, row in enumerate([0, 3, 4]):
        target = tuple(np.eye(3)[wanted].tolist())
        batch = asked(Cbal(weight=9.0).aim(target), [2], [0], budget=1)
        assert batch.indices.tolist() == [row, -1, -1]


@pytest.mark.slow
def test_room_for_classes_that_nobody_knows_changes_nothing():
    few, many = (asked(Cbal(), [0, 1], [0, 0], num_classes=number) for number in (3, 5))
    assert few.indices.tolist() == many.indices.tolist()
    assert float(few.objective) == float(many.objective)


def test_a_class_that_only_the_answers_know_keeps_its_share():
    # Four classes, of which the head knows three: 2 + 2 labels make one for each.
    batch = asked(Cbal(weight=1.0), [0, 1], [3, 3], num_classes=4)
    short = np.array([1, 1, 1, 0.0])
    probs = np.pad(PROBS, ((0, 0), (0, 1)))
    cost = reference.cost_of_batch(-ENTROPY, probs, short, 1.0, batch.indices[:2])
    assert float(batch.objective) == pytest.approx(cost, abs=1e-5)


def test_predictions_for_more_classes_than_there_are_get_a_sentence():
    with pytest.raises(ValueError, match="a column for each of the 2 target classes, and got 3"):
        asked(Cbal(), [0], [0], num_classes=2)


def test_reasons_name_the_class_that_is_added_to():
    pool = balal.pool(None, probs=PROBS, keep_logits=True)
    labelled = labelled_set.extend(labelled_set.make(np.array([0, 1]), np.array([0, 0])), 2)
    memory = Cbal().init(pool, labelled, 2, 3, jax.random.key(0))
    picks = balal.Pick(np.array([3]), np.array([-1]))
    assert Cbal().reason(memory, pool, labelled, picks, Names(("cat", "dog"))) == [
        "entropy 0.639; adds 0.90 to classes short of labels, most to dog (0 labels, 1.3 short)"
    ]


@pytest.mark.parametrize("kind", [Cbal, CbalCoreSet])
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(weight=-1.0), "weight must be a finite number of at least 0, got -1.0"),
        (dict(weight=float("nan")), "weight must be a finite number"),
        (dict(weight="high"), "weight must be a finite number"),
        (dict(target=(0.0, 0.0)), "target must be a tuple of finite numbers"),
        (dict(target=(1.0, -1.0)), "target must be a tuple of finite numbers"),
        (dict(target=[1.0]), "target must be a tuple of finite numbers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        kind(**wrong)


def test_only_a_query_of_cbal_has_a_certificate():
    state = balal.init(
        balal.strategy("random"),
        balal.pool(np.eye(2)),
        budget=1,
        num_classes=2,
        key=jax.random.key(0),
    )
    with pytest.raises(ValueError, match="only the query of a Cbal has a certificate, got Random"):
        certificate(balal.strategy("random"), balal.pool(np.eye(2)), state)
