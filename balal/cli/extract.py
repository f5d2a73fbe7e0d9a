"""What does a source model see in your images? Features and scores, computed once and kept in a
folder.

    balal extract photos/ --out=features/photos
    balal extract pool.npz --dataset=arrays --source=mobilenet_v2 --weights=net.pth --crop=1
    balal extract ~/tensorflow_datasets --dataset=cifar100 --split=test --out=features/cifar100_test
    balal extract images/ --labels=labels.csv --out=features/labelled
    balal extract downloads/ --dataset=food101 --out=features/food101

Images go through the network once, threads decode while it computes, and memory stays bounded: 70
to 100 images a second on a CPU core. Stop it when you like; the same command resumes after the last
finished thousand, and the result is the same byte for byte. The folder records what it was made
from (network, sha256 of the weights, preprocessing, images), and is refused where something else is
asked for.

`balal pick --features=FOLDER` picks from them; `balal.feature_cache.read(FOLDER)` reads them in
Python. `balal pick photos/` does all of this by itself.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from balal import folder_lock
from balal.cli import image_options, images, remarks


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the command."""
    image_options.define_flags(flag_values)
    flags.DEFINE_enum(
        "split",
        "pool",
        ["pool", "test"],
        "The pool (for a data set of the paper, before it is made imbalanced), or the test images: "
        "those of the data set, or --test_dir.",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "labelled",
        None,
        "Whether the directories in a folder are classes. Default: yes where it holds only "
        "directories, no where it holds only files.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "out",
        None,
        "Folder for this feature cache. Default: one below --cache, named after what it is made "
        "from.",
        flag_values=flag_values,
    )


def main(flag_values: flags.FlagValues, words: Sequence[str]) -> None:
    """Runs the command. words: the arguments that are not flags."""
    options = image_options.read_options(flag_values, words=words)
    out = None if flag_values.out is None else Path(flag_values.out)
    if out is not None:
        # Whether another program works there is told now, not once all images have been read.
        with folder_lock.locked(out, read_only=True):
            pass
    images.refuse_network(options)
    if flag_values.split == "test" and (options.files or options.labels):
        raise ValueError("--files and --labels are about the pool: leave them out, or --split=test")
    with images.looked_at(options, folder=out):
        if flag_values.split == "pool":
            chosen = images.read_pool(options, labelled=flag_values.labelled)
        else:
            chosen = images.read_tests(options)
        if chosen is None:
            raise ValueError(
                f"--dataset={options.dataset} has no test split: name the folder or file of the "
                f"test images with --test_dir"
            )
        folder, cache = images.extract(chosen, options, folder=out)
    weights, predicted = cache.manifest["weights"], cache.columns["predicted"]
    print(
        f"{len(cache.ids)} images of {chosen.name}: features {list(cache.features.shape)} in "
        f"{cache.features.dtype}; {len(np.unique(predicted))} of the source model's classes "
        f"predicted; weights {weights['file']}, sha256 {weights['sha256'][:12]}. Everything is in "
        f"{folder}."
    )
    for told in (remarks.left_out(chosen), remarks.without_images(chosen)):
        if told:
            print(told)
