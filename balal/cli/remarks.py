"""What the user is told about images: which files were left out, and which classes are odd."""

from collections.abc import Mapping, Sequence

import numpy as np

from balal import data
from balal.wording import first_few, look_alike, printable, told_apart


def left_out(images: data.Images) -> str:
    """Lines on the files that were left out, on those that are no images by their name, and on
    directories that may not be the classes that were meant; empty where there are none."""
    text = ""
    if images.skipped:
        text += (
            f"\nLeft out as damaged or not an image ({len(images.skipped)}): "
            f"{', '.join(map(printable, images.skipped))}."
        )
    if images.ignored:
        text += f"\nPassed over, as no images ({len(images.ignored)}): {first_few(images.ignored)}."
    if _are_above_classes(images):
        names = first_few(images.class_names)
        text += (
            f"\nThe classes ({names}) hold directories and no images of their own: if those "
            f"directories are the classes, name the folder that holds them."
        )
    if images.unlabelled:
        text += (
            f"\nLeft out, as they have no label ({len(images.unlabelled)}): "
            f"{first_few(images.unlabelled)}."
        )
    without = [images.ids[row] for row in np.flatnonzero(images.labels < 0)]
    if without and images.class_names:
        text += f"\nWithout a label ({len(without)}): {first_few(without)}."
    alike = [" and ".join(told_apart(group)) for group in look_alike(images.class_names)]
    if alike:
        text += f"\nClasses with names that look alike ({len(alike)}): {first_few(alike)}."
    return text


def _are_above_classes(images: data.Images) -> bool:
    """Whether the directories that are classes hold only directories, as `train` and `test` do."""
    return bool(images.class_names) and all(
        label >= 0 and file.count("/") > 1 and file.startswith(f"{images.class_names[label]}/")
        for file, label in zip(images.ids, images.labels, strict=True)
    )


def without_images(images: data.Images) -> str:
    """A line on the classes that have no images; empty where there are none."""
    empty = images.empty_classes
    if not empty:
        return ""
    damaged = {name.split("/")[0] for name in images.skipped if "/" in name}
    named = [f"{name} (all damaged)" if name in damaged else name for name in empty]
    hint = " Labels count from 0: subtract 1 if yours count from 1." if empty[0] == "0" else ""
    return f"\nClasses without images ({len(empty)}): {first_few(named)}.{hint}"


def how_they_differ(classes: Mapping[str, Sequence[str]]) -> str:
    """How the classes of pool and test set, under what these are called, differ."""
    names, test_names = classes.values()
    apart = set(names) ^ set(test_names)
    alike = [group for group in look_alike([*names, *test_names]) if set(group) <= apart]
    rest = apart - {name for group in alike for name in group}
    parts = [
        f"only {where} has {first_few(sorted(rest & set(only)))}"
        for where, only in classes.items()
        if rest & set(only)
    ]
    if alike:
        groups = first_few([" / ".join(told_apart(group)) for group in alike])
        parts.append(
            f"some differ by case, white space or Unicode form alone: {groups}; rename one of each"
        )
    return "; and ".join(parts) or "they are in another order"
