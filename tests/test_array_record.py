"""Data sets prepared by TensorFlow Datasets, read without TensorFlow. The tests prepare small ones
of their own: nothing is downloaded."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from balal import data

datasets = pytest.importorskip(
    "tensorflow_datasets", reason="tensorflow_datasets is not installed: pip install 'balal[data]'"
)
pytest.importorskip(
    "array_record", reason="array_record is not installed: pip install 'balal[data]'"
)


def photo(shade: int, height: int = 4) -> Image.Image:
    return Image.new("RGB", (5, height), (shade, 0, 255 - shade))


def prepare(place: Path, set_name: str, splits: dict[str, int], features: dict, example) -> None:
    """Writes a data set as `tfds build` does: `example(row)` is a dictionary of the features."""

    class Small(datasets.core.GeneratorBasedBuilder, skip_registration=True):
        name = set_name
        VERSION = datasets.core.Version("1.0.0")

        def _info(self):
            return datasets.core.DatasetInfo(
                builder=self, features=datasets.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {
                split: ((row, example(row)) for row in range(size))
                for split, size in splits.items()
            }

        def _generate_examples(self):
            raise NotImplementedError

    Small(data_dir=str(place), file_format="array_record").download_and_prepare()


def png(image: Image.Image) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, "PNG")
    file.seek(0)
    return file


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("tensorflow_datasets")
    features = datasets.features
    image, label = (
        features.Image(shape=(None, None, 3)),
        features.ClassLabel(names=["cat", "dog", "emu"]),
    )
    with_ids = {"image": image, "label": label, "id": features.Text()}
    prepare(
        place, "pets", {"train": 12, "test": 3}, with_ids,
        lambda row: {
            "image": png(photo(row * 10, 3 + row % 2)), "label": row % 3, "id": f"pet_{row:03d}"
        },
    )  # fmt: skip
    prepare(place, "views", {"train": 4}, {"image": image}, lambda row: {"image": png(photo(row))})
    numbers = {
        "image": features.Scalar(np.int64),
        "picture": image,
        "label": features.Scalar(np.int64),
    }
    prepare(
        place, "numbers", {"train": 2}, numbers,
        lambda row: {"image": row, "picture": png(photo(row)), "label": row},
    )  # fmt: skip
    return place


def test_a_prepared_set_gives_its_images_labels_and_ids(prepared):
    found = data.tfds("pets", split="train", data_dir=prepared)
    assert (found.name, len(found), found.class_names) == ("pets train", 12, ("cat", "dog", "emu"))
    assert sorted(found.ids) == [f"pet_{row:03d}" for row in range(12)]
    for batch in data.batches(found, 5, threads=3):
        for name, label, image in zip(batch.ids, batch.labels, batch.images, strict=True):
            row = int(name.removeprefix("pet_"))
            assert label == row % 3
            np.testing.assert_array_equal(image, np.asarray(photo(row * 10, 3 + row % 2)))


def test_neither_finding_nor_reading_imports_tensorflow(prepared):
    program = (
        "import sys; from balal import data; "
        f"pictures = data.tfds('pets', split='test', data_dir={str(prepared)!r}); "
        "assert len(list(data.batches(pictures, 2))) == 2; "
        "sys.exit(' '.join({'tensorflow', 'torch', 'flax'} & set(sys.modules)) or None)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""


def test_without_ids_and_labels_rows_have_the_name_of_their_split(prepared):
    found = data.tfds("views", split="train", data_dir=prepared)
    assert found.ids == ("train/0", "train/1", "train/2", "train/3")
    assert (found.labels.tolist(), found.class_names) == ([-1] * 4, ())


def test_splits_may_be_cut_and_joined(prepared):
    whole, part = (
        data.tfds("pets", split=split, data_dir=prepared) for split in ("train", "train[3:5]")
    )
    assert part.ids == whole.ids[3:5]
    np.testing.assert_array_equal(part.read(1), whole.read(4))
    with pytest.raises(ValueError, match=r"repeated in pets train\+test: pet_0"):
        data.tfds("pets", split="train+test", data_dir=prepared)
    assert (
        data.tfds("pets", split="train+test", data_dir=prepared, ids=None).ids[-1]
        == "train+test/14"
    )


def test_the_same_set_has_the_same_fingerprint(prepared):
    marks = [
        data.tfds("pets", split=split, data_dir=prepared).fingerprint
        for split in ("train", "train", "test")
    ]
    assert marks[0] == marks[1] != marks[2]


def test_a_set_that_is_not_prepared_comes_with_the_command_that_prepares_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="cifar100 is not prepared in ") as caught:
        data.tfds("cifar100", split="train", data_dir=tmp_path)
    assert (
        f"(reading it needs none): tfds build cifar100 --file_format=array_record "
        f"--data_dir={tmp_path}" in str(caught.value)
    )


def test_a_set_in_another_format_is_not_taken_for_one_that_can_be_read_at_random(
    prepared, tmp_path
):
    # What `tfds build` leaves by default, in all but the records themselves, which only TensorFlow
    # can write.
    made, copy = prepared / "pets" / "1.0.0", tmp_path / "pets" / "1.0.0"
    copy.mkdir(parents=True)
    for file in made.iterdir():
        (copy / file.name.replace("array_record", "tfrecord")).write_bytes(
            file.read_bytes().replace(b'"array_record"', b'"tfrecord"')
        )
    with pytest.raises(
        FileNotFoundError,
        match=r"pets is prepared in .* as tfrecord, which has no random access; prepare it once",
    ):
        data.tfds("pets", split="train", data_dir=tmp_path)


def test_splits_and_features_that_are_not_there_are_reported_with_those_that_are(prepared):
    with pytest.raises(
        ValueError,
        match="split must be made of train, test, in the notation of TensorFlow Datasets, got "
        "'dev' for pets",
    ):
        data.tfds("pets", split="dev", data_dir=prepared)
    with pytest.raises(
        ValueError,
        match=r"numbers has no feature 'image' that is an image of uint8; pass image=, its "
        r"features are \{.*'image': 'Scalar'",
    ):
        data.tfds("numbers", split="train", data_dir=prepared)
    with pytest.raises(
        ValueError, match=r"'label' of numbers is .*, not a class label; pass label="
    ):
        data.tfds("numbers", split="train", data_dir=prepared, image="picture")
    assert (
        len(data.tfds("numbers", split="train", data_dir=prepared, image="picture", label=None))
        == 2
    )


def test_a_data_set_of_the_paper_finds_its_parts(prepared):
    pets = data.DatasetInfo("pets", 3, "tfds", "train", "test", "whole")
    assert [len(data.load(pets, prepared, part=part)) for part in ("pool", "test")] == [12, 3]
