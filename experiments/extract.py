"""What does a source model make of your images? Their features and scores, computed once and kept
in a folder.

    python -m experiments.extract --dataset=folder --data_dir=photos/ --source=efficientnet_lite0 --out=features/photos
    python -m experiments.extract --dataset=arrays --data_dir=pool.npz --source=tf_mobilenet_v2 --weights=weights.safetensors --crop=1
    python -m experiments.extract --dataset=cifar100 --data_dir=~/tensorflow_datasets --split=test --out=features/cifar100_test

Images go through the network once, threads decode while it computes, and memory stays bounded: 70
to 100 images a second on a CPU core. Stop it when you like; the same command goes on after the last
finished thousand, and the result is the same byte for byte. The folder says what it was made from
(network, sha256 of the weights, preprocessing, images), and is refused where something else is
asked for.

Read it with `balal.data.cache.read(folder)`, or let `experiments.one_shot` and `experiments.pick`
do all of it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from experiments.common import pictures, program

# Apart from the other programs' flags, which have the same names.
FLAGS = flags.FlagValues()
_SPLIT = flags.DEFINE_enum(
    "split",
    "pool",
    ["pool", "test"],
    "The pool, of a data set of the paper before it is made unbalanced, or the test: its own or "
    "--test_dir.",
    flag_values=FLAGS,
)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "Folder for this feature cache. Default: one below --cache, named after what it is made from.",
    flag_values=FLAGS,
)


def main(_: Sequence[str]) -> None:
    images = pictures.test(None) if _SPLIT.value == "test" else pictures.pool()
    if images is None:
        raise ValueError(
            f"--dataset={pictures.DATASET.value} has no test split: name the folder or file of "
            f"those images with --test_dir"
        )
    folder, cache = pictures.features(
        images, folder=None if _OUT.value is None else Path(_OUT.value)
    )
    features, predicted, weights = (
        cache.columns["features"],
        cache.columns["predicted"],
        cache.manifest["weights"],
    )
    print(
        f"{len(cache.ids)} images of {images.name}: features {list(features.shape)} in "
        f"{features.dtype}; {len(np.unique(predicted))} of "
        f"the source model's classes predicted; weights {weights['file']}, sha256 "
        f"{weights['sha256'][:12]}. Everything is in {folder}."
    )
    pictures.tell_skipped(images)


if __name__ == "__main__":
    program.run(main, FLAGS)
