"""Tail first: whom it asks for, who steps aside, and what a source model's predictions do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import balal
from balal.strategies import TailFirst

ROWS, CLASSES = 16, 4


def pool_of(predicted, margin=None):
    values = np.linspace(0.1, 0.9, len(predicted)) if margin is None else np.asarray(margin)
    values = jnp.asarray(values, jnp.float32)
    return balal.pool(
        None, scores=balal.Scores(values, values, values, jnp.asarray(predicted, jnp.int32))
    )


def begun(strategy, pool, start, budget=8, seed=0):
    options = dict(budget=budget, num_classes=CLASSES, key=jax.random.key(seed))
    rows, labels = np.array(start, int).reshape(-1, 2).T
    return balal.init(strategy, pool, labelled=(rows, labels), **options)


# Three labels of class 0, one of 1, two of 2.
START = [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 2)]
PREDICTED = [0] * 6 + [0, 0, 1, 1, 1, 1, 2, 2, 3, 3]


def test_the_most_uncertain_row_predicted_as_the_rarest_class_is_asked():
    pool, strategy = pool_of(PREDICTED), TailFirst()
    state = begun(strategy, pool, START)
    index, state = balal.ask(strategy, pool, state)
    assert (index.tolist(), state.pending.wanted[0]) == ([11], 1)
    assert balal.strategies.member(strategy, "nested")


def test_rows_that_are_pending_count_as_the_class_they_were_asked_for():
    """Class 1 has one label, class 2 two: the second pick draws level, and the lower id goes on."""
    pool, strategy = pool_of(PREDICTED), TailFirst()
    _, state = balal.ask(strategy, pool, begun(strategy, pool, START), size=5)
    assert state.pending.indices[:5].tolist() == [11, 10, 13, 7, 9]
    assert state.pending.wanted[:5].tolist() == [1, 1, 2, 0, 1]


def test_a_miss_does_not_count_for_the_class_that_was_hoped_for():
    pool, strategy = pool_of(PREDICTED), TailFirst()
    asked, state = balal.ask(strategy, pool, begun(strategy, pool, START), size=2)
    state = balal.tell(strategy, pool, state, asked, [0, 0])
    _, state = balal.ask(strategy, pool, state)
    assert int(state.pending.wanted[0]) == 1


def test_classes_that_are_predicted_nowhere_step_aside():
    predicted = [0 if number == 1 else number for number in PREDICTED]
    pool, strategy = pool_of(predicted), TailFirst()
    index, state = balal.ask(strategy, pool, begun(strategy, pool, START))
    assert (index.tolist(), int(state.pending.wanted[0])) == ([13], 2)


@pytest.mark.parametrize("start", [[], [(0, 0)]], ids=["no label", "none predicted"])
def test_where_nothing_is_predicted_as_a_known_class_the_most_uncertain_row_is_asked(start):
    pool, strategy = pool_of([3] * ROWS), TailFirst()
    index, state = balal.ask(strategy, pool, begun(strategy, pool, start))
    assert (index.tolist(), int(state.pending.wanted[0])) == ([ROWS - 1], -1)


def test_ties_are_drawn_if_they_are_to_be():
    pool, start = pool_of(PREDICTED), [(0, 0), (8, 1), (12, 2)]
    wanted = {
        ties: {
            int(
                balal.ask(strategy, pool, begun(strategy, pool, start, seed=seed))[
                    1
                ].pending.wanted[0]
            )
            for seed in range(8)
            for strategy in [TailFirst(ties=ties)]
        }
        for ties in ("lowest", "random")
    }
    assert wanted == dict(lowest={0}, random={0, 1, 2})


def test_source_classes_are_refused_if_their_logits_are_there_and_otherwise_are_no_prediction():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(ROWS, 9)).astype(np.float32)
    kept = balal.pool(None, logits=logits, keep_logits=True)
    with pytest.raises(ValueError, match="of the 4 target classes, and these are of 9"):
        begun(TailFirst(), kept, START)
    pool = balal.pool(None, logits=logits)
    _, state = balal.ask(TailFirst(), pool, begun(TailFirst(), pool, START))
    assert int(state.pending.wanted[0]) < CLASSES


@pytest.mark.parametrize("seed", range(3))
def test_simulated_picks_are_those_of_the_twin(seed):
    rng = np.random.default_rng(seed)
    predicted, labels = rng.integers(0, CLASSES, (2, ROWS))
    pool, start = pool_of(predicted, rng.permutation(np.linspace(0.1, 0.9, ROWS))), [2, 7, 9]
    result = balal.simulate(
        TailFirst(),
        pool,
        labels,
        budget=10,
        num_classes=CLASSES,
        key=jax.random.key(0),
        labelled=(np.array(start), labels[start]),
    )
    expected = reference.tail_first(
        np.asarray(pool.scores.margin),
        predicted,
        labels,
        10,
        CLASSES,
        start=start,
        candidates=np.ones(ROWS, bool),
    )
    assert result.indices.tolist() == expected


def test_reasons_say_which_class_was_hoped_for():
    pool, strategy = pool_of(PREDICTED), TailFirst("least_confidence")
    _, state = balal.ask(strategy, pool, begun(strategy, pool, START))
    assert balal.reasons(strategy, pool, state, target_names=["ant", "bee", "cat", "dog"]) == [
        "least confidence 0.687, the most uncertain that is predicted as bee (1 label), the rarest "
        "class on offer"
    ]


def test_an_unknown_score_is_refused():
    with pytest.raises(ValueError, match="score"):
        TailFirst("certainty")
