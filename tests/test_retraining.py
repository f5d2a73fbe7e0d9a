import jax
import jax.numpy as jnp
import numpy as np
import pytest

import balal
from balal.heads import logistic
from balal.testing import compilations

ROWS, CLASSES = 60, 3
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, CLASSES, ROWS)
FEATURES = (2 * RNG.normal(size=(CLASSES, 4))[LABELS] + RNG.normal(size=(ROWS, 4))).astype(
    np.float32
)


def fit(indices, labels, before):
    return logistic.fit(FEATURES[indices], labels, num_classes=CLASSES, before=before)


def predict(head):
    return logistic.class_logits(head, FEATURES)


def run(name, **options):
    pool = options.pop("pool", balal.pool(FEATURES))
    given = dict(
        fit=fit, predict=predict, sizes=[5, 5, 5], num_classes=CLASSES, key=jax.random.key(0)
    )
    return list(balal.rounds(balal.strategy(name), pool, LABELS, **given | options))


def test_each_round_asks_by_the_model_of_the_one_before():
    steps = run("ms", first=balal.strategy("random"))
    taken = []
    for before, now in zip([None, *steps], steps, strict=False):
        if before is not None:
            margins = np.array(balal.margin(jnp.asarray(predict(before.model), jnp.float32)))
            margins[taken] = -1
            assert now.indices.tolist() == np.argsort(-margins, kind="stable")[:5].tolist()
        taken += now.indices.tolist()
        assert now.labelled.indices[: len(taken)].tolist() == taken
        assert now.labelled.labels[: len(taken)].tolist() == LABELS[taken].tolist()
    assert len(set(taken)) == 15


def test_one_program_serves_rounds_of_all_sizes():
    run("ms", first=balal.strategy("random"), sizes=[7, 2])
    before = compilations()
    steps = run("ms", first=balal.strategy("random"), sizes=[2, 7], key=jax.random.key(1))
    assert compilations() == before
    assert [len(step.indices) for step in steps] == [2, 7]


def test_a_labelled_start_is_fitted_first_and_never_asked():
    start = (np.arange(6), LABELS[:6])
    steps = run("ms", labelled=start)
    assert [len(step.indices) for step in steps] == [0, 5, 5, 5]
    assert steps[0].model.counts.sum() == 6
    assert not set(range(6)) & {row for step in steps for row in step.indices.tolist()}


@pytest.mark.parametrize("name", ["random+balance", "random"])
def test_labels_asked_for_together_are_those_of_ask_and_tell(name):
    together = run(name, sizes=[6], query_size=None)
    strategy, pool = balal.strategy(name), balal.pool(FEATURES)
    key = jax.random.fold_in(jax.random.key(0), 0)
    state = balal.init(strategy, pool, budget=6, num_classes=CLASSES, key=key)
    rows, _ = balal.ask(strategy, pool, state, size=6)
    assert together[0].indices.tolist() == rows.tolist()


def test_every_candidate_can_be_bought():
    candidates = np.arange(ROWS) < 8
    steps = run("random", pool=balal.pool(FEATURES, candidates=candidates), sizes=[5, 3])
    assert sorted(row for step in steps for row in step.indices.tolist()) == list(range(8))


def test_the_head_begins_from_the_one_before():
    seen = []

    def noted(indices, labels, before):
        seen.append(before)
        return fit(indices, labels, before)

    steps = run("random", fit=noted)
    assert seen == [None, steps[0].model, steps[1].model]


def test_an_ensemble_is_asked_as_a_whole():
    asked = []

    class Watches(type(balal.strategy("random"))):
        @property
        def needs(self):
            return ("logits",)

        def order(self, pool, labelled, budget, key):
            asked.append(pool.logits.shape)
            return super().order(pool, labelled, budget, key)

    list(
        balal.rounds(
            Watches(),
            balal.pool(FEATURES),
            LABELS,
            fit=fit,
            predict=lambda head: np.stack([predict(head)] * 2, axis=1),
            sizes=[3, 3],
            num_classes=CLASSES,
            key=jax.random.key(0),
            first=balal.strategy("random"),
        )
    )
    assert asked == [(ROWS, 2, CLASSES)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(sizes=[]), r"sizes must name at least one round"),
        (dict(sizes=[3, 0]), r"sizes must be a whole number of at least 1, got 0"),
        (dict(sizes=[40, 40]), r"budget=80 asks for more labels than the 60 candidates"),
        (dict(query_size=0), r"query_size must be a whole number of at least 1"),
        (dict(first=None), r"asks the target model, and there is none .* pass first="),
        (dict(predict=lambda head: np.zeros((3, 3))), r"each of the 60 rows .* got 3"),
    ],
)
def test_what_cannot_be_run_is_told(options, said):
    with pytest.raises(ValueError, match=said):
        run("ms", **dict(first=balal.strategy("random")) | options)


def test_a_head_fitted_from_another_is_the_same():
    alone = logistic.fit(FEATURES, LABELS, num_classes=CLASSES)
    few = logistic.fit(FEATURES[:20], LABELS[:20] % 2, num_classes=CLASSES)
    begun = logistic.fit(FEATURES, LABELS, num_classes=CLASSES, before=few)
    assert np.abs(alone.coef - begun.coef).max() < 1e-2 * np.abs(alone.coef).max()
    with pytest.raises(ValueError, match=r"fitted on 4 columns, and these features have 3"):
        logistic.fit(FEATURES[:, :3], LABELS, num_classes=CLASSES, before=few)


def test_classes_a_head_has_not_seen_have_no_logit():
    head = logistic.fit(FEATURES[:20], 2 * (LABELS[:20] % 2), num_classes=5)
    found = logistic.class_logits(head, FEATURES)
    assert np.isneginf(found[:, [1, 3, 4]]).all()
    assert np.array_equal(found[:, [0, 2]], logistic.logits(head, FEATURES))


def test_what_is_wrong_is_told_at_the_call_not_at_the_first_round():
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\), but rows? .* ha"):
        balal.rounds(
            balal.strategy("random"),
            balal.pool(FEATURES),
            LABELS + 2,
            fit=fit,
            predict=predict,
            sizes=[3],
            num_classes=CLASSES,
            key=jax.random.key(0),
        )


def test_what_follows_from_the_pool_alone_is_prepared_once(monkeypatch):
    prepared = []
    kind = balal.strategies.Posterior
    prepare = kind.prepare
    monkeypatch.setattr(
        kind, "prepare", lambda self, pool: prepared.append(1) or prepare(self, pool)
    )
    steps = run("posterior", sizes=[2, 2, 2])
    assert [len(step.indices) for step in steps] == [2, 2, 2]
    assert len(prepared) == 1
