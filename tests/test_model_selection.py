"""The choice between heads by cross-validation on the labelled set."""

import itertools

import jax
import numpy as np
import pytest
from small_network import SMALL

from balal.heads import finetune, model_selection, svm
from balal.models import sources


def test_every_row_is_held_out_once_and_by_the_same_folds_for_all():
    seen = {"first": [], "second": []}

    def head(name):
        def predict(rows, held):
            assert not set(rows) & set(held)
            assert len(rows) + len(held) == 23
            seen[name].append(held.tolist())
            return np.zeros(len(held), int)

        return predict

    labels = np.arange(23) % 3
    found = model_selection.choose({name: head(name) for name in seen}, labels, folds=5)
    assert sorted(itertools.chain(*seen["first"])) == list(range(23))
    assert seen["first"] == seen["second"]
    assert found == model_selection.Choice("first", {"first": 8 / 23, "second": 8 / 23})
    assert model_selection.choose({"only": head("first")}, labels, folds=5, seed=1).name == "only"


def test_it_is_leave_one_out_where_there_are_fewer_rows_than_folds():
    sizes = []
    model_selection.choose(
        {"x": lambda rows, held: sizes.append(len(held)) or held}, np.arange(4), folds=10
    )
    assert sizes == [1, 1, 1, 1]


@pytest.mark.slow
def test_transfer_is_chosen_where_features_tell_and_fine_tuning_where_pixels_do():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    # The class is whether an image is bright; the features of the first case tell it, those of the
    # second do not.
    images = (
        60 + 120 * labels[:, None, None, None] + rng.integers(-30, 30, (40, 16, 16, 3))
    ).astype(np.uint8)
    params = sources.initial(SMALL, key=jax.random.key(0))
    recipe = finetune.Recipe(epochs=6, batch=8, learning_rate=0.02, flip=False, shift=0.0)

    def tuned(rows, held):
        head = finetune.fit(
            SMALL,
            params,
            images[rows],
            labels[rows],
            num_classes=2,
            key=jax.random.key(1),
            recipe=recipe,
        )
        return finetune.predict(head, images[held], batch=20)

    def transferred(features):
        def predict(rows, held):
            return svm.predict(svm.fit(features[rows], labels[rows], num_classes=2), features[held])

        return predict

    told, blind = rng.normal(size=(40, 4)), rng.normal(size=(40, 4))
    told[:, 0] += 8 * labels
    untaught = {"finetune": lambda rows, held: np.zeros(len(held), int)}
    assert (
        model_selection.choose(untaught | {"svm": transferred(told)}, labels, folds=2).name == "svm"
    )
    found = model_selection.choose({"svm": transferred(blind), "finetune": tuned}, labels, folds=2)
    assert found.name == "finetune"
    assert found.accuracies["finetune"] > 0.9 > found.accuracies["svm"]


@pytest.mark.parametrize(
    ("heads", "labels", "folds", "told"),
    [
        ({}, np.arange(4), 2, "a head"),
        ({"x": lambda rows, held: held}, np.arange(1), 2, "2 labels"),
        ({"x": lambda rows, held: held}, np.arange(4), 1, "2 folds"),
        ({"x": lambda rows, held: held[:1]}, np.arange(4), 2, "one class for each of 2 rows"),
    ],
)
def test_what_gives_no_choice_is_reported(heads, labels, folds, told):
    with pytest.raises(ValueError, match=told):
        model_selection.choose(heads, labels, folds=folds)
