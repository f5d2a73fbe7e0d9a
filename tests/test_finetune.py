"""Fine-tuning of a small network: it learns, it repeats itself, and it goes on where it was
stopped."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from balal.heads import finetune
from balal.models import sources
from balal.models.mobilenet import MOBILENET_V2, Mobile
from balal.models.sources import Source

SOURCE = Source(Mobile(MOBILENET_V2[:2]), image_size=16, num_classes=7)
PLAIN = finetune.Recipe(epochs=30, batch=16, learning_rate=0.05, flip=False, shift=0.0)
LIGHT = finetune.Recipe(epochs=2, batch=16)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def params():
    return sources.initial(SOURCE, key=jax.random.key(0))


@pytest.fixture(scope="module")
def pictures():
    """64 images of noise, and labels that nothing but memory can tell; class 4 has none."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (64, 16, 16, 3), np.uint8), rng.choice([0, 1, 2, 3, 5], 64)


@pytest.fixture(scope="module")
def learned(params, pictures):
    return finetune.fit(SOURCE, params, *pictures, num_classes=6, key=KEY, recipe=PLAIN)


@pytest.mark.slow
def test_it_overfits_64_images(learned, pictures):
    images, labels = pictures
    assert learned.losses[0] > 1
    assert learned.losses[-1] < 0.1
    np.testing.assert_array_equal(finetune.predict(learned, images), labels)
    assert finetune.logits(learned, images)[:, 4].max() == -np.inf


@pytest.mark.nightly
def test_bfloat16_overfits_them_too_and_parameters_stay_float32(learned, params, pictures):
    images, labels = pictures
    head = finetune.fit(
        SOURCE, params, images, labels, num_classes=6, key=KEY, recipe=replace(PLAIN, bfloat16=True)
    )
    assert not np.array_equal(head.losses, learned.losses)
    assert head.losses[0] > 1
    assert head.losses[-1] < 0.1
    np.testing.assert_array_equal(finetune.predict(head, images), labels)
    assert {leaf.dtype for leaf in jax.tree.leaves(head.params)} == {np.dtype(np.float32)}


@pytest.mark.slow
def test_the_same_key_gives_the_same_head_and_another_another(params, pictures):
    first, second, other = (
        finetune.fit(SOURCE, params, *pictures, num_classes=6, key=key, recipe=LIGHT)
        for key in (KEY, KEY, jax.random.key(4))
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, first.params, second.params))
    assert not np.array_equal(first.losses, other.losses)


@pytest.mark.slow
def test_one_that_was_stopped_resumes_to_the_same_end(params, pictures, tmp_path):
    class Stop(Exception):
        pass

    def stop(epoch, loss):
        raise Stop

    whole = finetune.fit(SOURCE, params, *pictures, num_classes=6, key=KEY, recipe=LIGHT)
    with pytest.raises(Stop):
        finetune.fit(
            SOURCE,
            params,
            *pictures,
            num_classes=6,
            key=KEY,
            recipe=LIGHT,
            checkpoint=tmp_path / "net.npz",
            progress=stop,
        )
    done = []
    rest = finetune.fit(
        SOURCE,
        params,
        *pictures,
        num_classes=6,
        key=KEY,
        recipe=LIGHT,
        checkpoint=tmp_path / "net.npz",
        progress=lambda epoch, loss: done.append(epoch),
    )
    assert done == [2]
    assert jax.tree.all(jax.tree.map(np.array_equal, whole.params, rest.params))
    np.testing.assert_array_equal(whole.losses, rest.losses)
    with pytest.raises(ValueError, match="another training"):
        finetune.fit(
            SOURCE,
            params,
            *pictures,
            num_classes=6,
            key=jax.random.key(9),
            recipe=LIGHT,
            checkpoint=tmp_path / "net.npz",
        )
    (tmp_path / "net.npz").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        finetune.fit(
            SOURCE,
            params,
            *pictures,
            num_classes=6,
            key=KEY,
            recipe=LIGHT,
            checkpoint=tmp_path / "net.npz",
        )


@pytest.mark.slow
def test_a_checkpoint_of_another_source_or_of_arrays_of_another_form_is_refused(
    params, pictures, tmp_path
):
    images, labels = pictures
    options = dict(num_classes=6, key=KEY, recipe=LIGHT, checkpoint=tmp_path / "net.npz")
    finetune.fit(SOURCE, params, images, labels, **options)
    for source, seen in [
        (replace(SOURCE, mean=(127.5,) * 3), images),
        (replace(SOURCE, padding="same"), images),
        (SOURCE, images.view(np.int8)),
        (SOURCE, images.reshape(64, 8, 32, 3)),
    ]:
        with pytest.raises(ValueError, match="another training"):
            finetune.fit(source, params, seen, labels, **options)


@pytest.mark.nightly
def test_a_class_that_counts_for_next_to_nothing_is_not_learned(params, pictures):
    images, labels = pictures
    weights = np.array([1, 1e-6, 1, 1, 1, 1])
    head = finetune.fit(
        SOURCE, params, images, labels, num_classes=6, key=KEY, recipe=PLAIN, weights=weights
    )
    predicted = finetune.predict(head, images)
    assert np.mean(predicted[labels != 1] == labels[labels != 1]) == 1
    assert np.mean(predicted[labels == 1] == 1) < 0.5


def test_what_a_class_without_labels_weighs_does_not_matter(params, pictures):
    options = dict(num_classes=6, key=KEY, recipe=LIGHT)
    first, second = (
        finetune.fit(
            SOURCE, params, *pictures, weights=np.array([1, 1, 1, 1, weight, 1]), **options
        )
        for weight in (0, 1)
    )
    np.testing.assert_array_equal(first.losses, second.losses)


def test_an_adjustment_lowers_what_it_was_added_to(params, pictures):
    images, labels = pictures
    plain, adjusted = (
        finetune.fit(
            SOURCE, params, images, labels, num_classes=6, key=KEY, recipe=LIGHT, adjustment=added
        )
        for added in (None, np.array([9.0, 0, 0, 0, 0, 0]))
    )
    assert (
        finetune.logits(adjusted, images)[:, 0].mean()
        < finetune.logits(plain, images)[:, 0].mean() - 0.5
    )


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"),
    [
        (4, 3, [6, 3, 3]),
        (1, 4, [2, 1, 1]),
        (2, 4, [4, 2, 2]),
        (3, 4, [6, 3, 3]),
        (2, 1, [1, 1, 0]),
        (1, 1, [1, 0, 0]),
    ],
)
def test_the_learning_rate_falls_to_a_tenth_after_shares_of_the_epochs_however_few(
    epochs, steps, expected
):
    recipe = finetune.Recipe(
        epochs=epochs, learning_rate=1.0, momentum=0.0, weight_decay=0.0, decay=(0.5, 0.75)
    )
    optimizer = finetune._optimizer(recipe, steps)
    state, rates = optimizer.init(np.zeros((), np.float32)), []
    for _ in range(epochs * steps):
        change, state = optimizer.update(np.ones((), np.float32), state, np.zeros((), np.float32))
        rates.append(round(-float(change), 4))
    assert rates == np.repeat([1.0, 0.1, 0.01], expected).tolist()


def test_augmentation_keeps_the_pixels_and_moves_them():
    images = np.arange(4 * 8 * 8 * 3, dtype=np.float32).reshape(4, 8, 8, 3)
    moved = np.asarray(finetune._augmented(images, finetune.Recipe(shift=0.25), jax.random.key(1)))
    assert moved.shape == images.shape
    assert not np.array_equal(moved, images)
    for before, after in zip(images, moved, strict=True):
        assert set(np.unique(after)) <= set(np.unique(before))
    still = finetune._augmented(images, finetune.Recipe(flip=False, shift=0.0), jax.random.key(1))
    np.testing.assert_array_equal(still, images)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (dict(labels=np.full(64, 6)), r"these rows are not: .* \(64 in all\)"),
        (dict(labels=np.zeros(3, int)), "with one label for each"),
        (dict(images=np.zeros((64, 16, 16))), "shape"),
        (dict(recipe=finetune.Recipe(epochs=0)), "a recipe must have epochs"),
        (dict(weights=[1.0]), "weights must have a number for each of 6 classes"),
        (dict(adjustment=np.zeros(7)), "adjustment must have a number for each of 6 classes"),
        (
            dict(weights=np.array([1, 0, 1, -1, 1, np.nan])),
            r"weights must be positive and finite .* these classes are not: 1, 3, 5",
        ),
        (
            dict(adjustment=np.array([0, 0, np.nan, 0, 0, 0])),
            r"adjustment must be finite .* these classes are not: 2",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_reported(change, told, params, pictures):
    arguments = dict(images=pictures[0], labels=pictures[1], recipe=LIGHT) | change
    images, labels = arguments.pop("images"), arguments.pop("labels")
    with pytest.raises(ValueError, match=told):
        finetune.fit(SOURCE, params, images, labels, num_classes=6, key=KEY, **arguments)
