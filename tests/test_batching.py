"""Batches: the right images in order, within bounds, and what happens when one of them fails."""

import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from balal import data
from balal.data.room import Room


def numbered(size: int, **changes) -> data.Images:
    """Images of 2 x 2 pixels that all show the number of their row, two classes in turn."""
    images = data.Images(
        name="numbers",
        ids=tuple(f"n{row}" for row in range(size)),
        labels=np.arange(size, dtype=np.int32) % 2,
        class_names=("even", "odd"),
        read=lambda row: np.full((2, 2, 3), row, np.uint8),
        fingerprint="numbers",
    )
    return replace(images, **changes)


def failing_at(*rows: int):
    def read(row: int) -> np.ndarray:
        if row in rows:
            raise ValueError("it is cut off")
        return np.full((2, 2, 3), row, np.uint8)

    return read


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("balal.data")]


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("size", [1, 3, 4, 10, 50])
def test_every_image_comes_once_in_order_with_what_belongs_to_it(size, threads):
    seen = list(data.batches(numbered(10), size, threads=threads))
    assert [len(batch.images) for batch in seen] == [size] * (10 // size) + (
        [10 % size] if 10 % size else []
    )
    assert np.concatenate([batch.rows for batch in seen]).tolist() == list(range(10))
    assert [name for batch in seen for name in batch.ids] == [f"n{row}" for row in range(10)]
    assert np.concatenate([batch.labels for batch in seen]).tolist() == [0, 1] * 5
    assert np.concatenate([batch.images[:, 0, 0, 0] for batch in seen]).tolist() == list(range(10))


def test_slow_images_do_not_change_the_order():
    def read(row: int) -> np.ndarray:
        time.sleep(0.02 * (row % 3 == 0))
        return np.full((1, 1, 3), row, np.uint8)

    seen = list(data.batches(numbered(12, read=read), 5, threads=4))
    assert np.concatenate([batch.images[:, 0, 0, 0] for batch in seen]).tolist() == list(range(12))


def test_a_run_resumes_at_a_row_with_the_same_batches():
    images = numbered(20)
    whole = list(data.batches(images, 4))
    rest = list(data.batches(images, 4, rows=range(8, 20)))
    for first, second in zip(whole[2:], rest, strict=True):
        assert first.ids == second.ids
        np.testing.assert_array_equal(first.images, second.images)


def test_rows_may_come_in_any_order_but_only_once():
    batch = next(data.batches(numbered(10), 3, rows=np.array([7, 0, 3])))
    assert (batch.ids, batch.rows.tolist(), batch.labels.tolist()) == (
        ("n7", "n0", "n3"),
        [7, 0, 3],
        [1, 0, 1],
    )
    with pytest.raises(ValueError, match="rows must be distinct, but row 2 is more than once"):
        data.batches(numbered(10), 3, rows=[2, 2])
    with pytest.raises(
        ValueError, match="rows must be rows of the pool, 0 to 9, but value 10 is outside"
    ):
        data.batches(numbered(10), 3, rows=[10])
    assert list(data.batches(numbered(10), 3, rows=[])) == []


def test_images_of_several_sizes_stay_apart_and_prepared_ones_are_stacked():
    images = numbered(4, read=lambda row: np.zeros((row + 1, 5, 3), np.uint8))
    batch = next(data.batches(images, 4))
    assert isinstance(batch.images, tuple)
    assert [image.shape for image in batch.images] == [(1, 5, 3), (2, 5, 3), (3, 5, 3), (4, 5, 3)]
    batch = next(
        data.batches(images, 4, prepare=lambda image: image.mean(axis=(0, 1), dtype=np.float32))
    )
    assert isinstance(batch.images, np.ndarray)
    assert (batch.images.shape, batch.images.dtype) == ((4, 3), np.float32)


def test_preparing_happens_on_the_threads():
    def name(image: np.ndarray) -> np.ndarray:
        return np.array(threading.current_thread().name.startswith("balal.data"))

    assert next(data.batches(numbered(6), 6, prepare=name)).images.all()


def test_an_image_that_fails_is_named_after_the_batches_before_it():
    loaded = data.batches(numbered(10, read=failing_at(5)), 2, threads=3)
    assert [next(loaded).ids, next(loaded).ids] == [("n0", "n1"), ("n2", "n3")]
    with pytest.raises(
        ValueError, match=r"image 'n5' \(row 5\) of numbers cannot be read: it is cut off"
    ) as caught:
        next(loaded)
    assert str(caught.value.__cause__) == "it is cut off"
    assert not our_threads()


def test_an_error_without_words_is_called_by_its_name():
    def read(row: int) -> np.ndarray:
        raise MemoryError

    with pytest.raises(ValueError, match="cannot be read: MemoryError"):
        next(data.batches(numbered(1, read=read), 1))


def test_a_preparation_that_fails_is_no_damaged_image():
    for skip in (False, True):
        with pytest.raises(
            ValueError,
            match=r"prepare fails on image 'n0' \(row 0, shape \(2, 2, 3\)\) of numbers: division "
            r"by zero",
        ):
            next(data.batches(numbered(3), 2, prepare=lambda image: 1 / 0, skip_damaged=skip))


def test_damaged_images_are_collected_where_they_belong():
    seen = list(data.batches(numbered(8, read=failing_at(1, 2, 3)), 2, skip_damaged=True))
    assert [batch.ids for batch in seen] == [("n0",), (), ("n4", "n5"), ("n6", "n7")]
    assert [len(batch.images) for batch in seen] == [1, 0, 2, 2]
    told = [(damage.row, damage.id, damage.reason) for batch in seen for damage in batch.damaged]
    assert told == [(row, f"n{row}", "it is cut off") for row in (1, 2, 3)]


def test_no_more_is_read_ahead_than_promised():
    begun = []

    def read(row: int) -> np.ndarray:
        begun.append(row)
        return np.zeros((1, 1, 3), np.uint8)

    loaded = data.batches(numbered(1000, read=read), 10, threads=2)
    assert begun == []
    for taken in (10, 20, 30):
        next(loaded)
        time.sleep(0.05)
        assert taken <= len(begun) <= taken + 20
    loaded.close()
    assert not our_threads()


def test_batches_that_were_handed_out_are_let_go():
    size = 4 * 2**20
    alive = []

    class Tracked(np.ndarray):
        def __array_finalize__(self, whole):
            alive.append(1)

        def __del__(self):
            alive.pop()

    def read(row: int) -> np.ndarray:
        return np.zeros((size // 3,), np.uint8).view(Tracked)

    most = 0
    for _ in data.batches(numbered(40, read=read), 2, threads=2):
        most = max(most, len(alive))
    assert most <= 10


def test_leaving_a_loop_leaves_no_threads():
    for batch in data.batches(numbered(100), 3, threads=4):
        assert our_threads()
        if batch.rows[0] > 5:
            break
    assert not our_threads()


def test_a_generator_that_is_never_used_starts_nothing():
    loaded = data.batches(numbered(10), 3)
    assert not our_threads()
    loaded.close()


def test_bad_numbers_are_refused_at_once():
    for options, told in (
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"threads": 0}, "threads must be .* got 0"),
    ):
        with pytest.raises(ValueError, match=told):
            data.batches(numbered(3), **{"batch_size": 2, **options})


def test_selected_rows_are_images_of_their_own():
    chosen = data.select(numbered(10), np.array([8, 1]))
    assert (chosen.ids, chosen.labels.tolist(), chosen.read(0)[0, 0, 0]) == (
        ("n8", "n1"),
        [0, 1],
        8,
    )
    marks = {data.select(numbered(10), rows).fingerprint for rows in ([8, 1], [1, 8], [8, 1, 2])}
    assert len(marks | {"numbers"}) == 4
    assert data.select(numbered(10), [8, 1]).fingerprint == chosen.fingerprint
    assert data.select(numbered(10, fingerprint="others"), [8, 1]).fingerprint not in marks


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ids": ()}, "there are no images in numbers"),
        ({"ids": ("a", "b")}, "every image of numbers needs one label, -1 where it has none: 2 "
                              "ids, 3 labels"),
        ({"ids": ("a", "b", "a")}, "ids must be distinct, but some are repeated in "
                                   "numbers: a; rename"),
        ({"labels": np.array([0, 5, 1], np.int32)}, "must lie between -1 and 1, its last class, "
                                                    "but 5 does not; look at rows 1"),
        ({"class_names": ()}, "must lie between -1 and -1"),
    ],
)  # fmt: skip
def test_images_that_do_not_belong_together_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        numbered(3, **changes)


def test_threads_take_together_no_more_than_there_is():
    room, taken, most, alone = Room(10), [], [], []
    lock = threading.Lock()

    def work(amount: int) -> None:
        with room.taken(amount):
            with lock:
                taken.append(min(amount, 10))
                most.append(sum(taken))
                alone.append(len(taken) == 1 or amount <= 10)
            time.sleep(0.001)
            with lock:
                taken.remove(min(amount, 10))

    threads = [threading.Thread(target=work, args=(amount,)) for amount in [3, 4, 99, 5] * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(most) == 20
    assert max(most) <= 10
    assert all(alone)


def test_room_is_given_back_by_what_fails():
    room = Room(1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), room.taken(1):
            raise ZeroDivisionError


def test_importing_data_loads_nothing_heavy():
    program = (
        "import sys; from balal import data; "
        "sys.exit(' '.join(sorted({'PIL', 'tensorflow', 'tensorflow_datasets', 'array_record', "
        "'matplotlib'} & set(sys.modules))) or None)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
