"""What `balal pick` chooses from: photographs, features, or the features of photographs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import balal
from balal import data
from balal.cli import feature_files, images
from balal.wording import first_few


@dataclass(frozen=True)
class Choice:
    """What there is to choose from, before a network has looked at it.

    Attributes:
      name: for messages.
      ids: one a row: file names, or whatever the rows are called.
      photographs: those to look at, under the same ids in any order; None: there are none.
      features: those that were given; None: a network is to look at the photographs.
    """

    name: str
    ids: Sequence[str]
    photographs: data.Images | None
    features: feature_files.FeatureFile | None

    @property
    def rows(self) -> dict[str, int]:
        """The row of each id."""
        return {name: row for row, name in enumerate(self.ids)}


@dataclass(frozen=True)
class Seen:
    """A choice as a pool.

    Attributes:
      pool: features and, where there are any, scores.
      by: what the pool was made from, in words.
      made_from: the same, for programs.
      kept: the folder that holds what a network saw; None where no network has looked.
    """

    pool: balal.Pool
    by: str
    made_from: dict[str, Any]
    kept: Path | None = None


def read(
    options: images.ImageOptions,
    features: str | None,
    *,
    logits: str | None = None,
    ids: str | None = None,
) -> Choice:
    """What there is to choose from: photographs, features, or the features of photographs.

    Raises: ValueError where there is neither, or where nothing says which row belongs to which
      photograph.
    """
    if features is None:
        if logits or ids:
            raise ValueError(
                "--logits and --ids describe the rows of --features: name that file too"
            )
        if options.data_dir is None:
            raise ValueError(
                "--data_dir is missing: name the folder of photographs, or a file of --features"
            )
        photographs = images.read_pool(options, labelled=False)
        return Choice(photographs.name, photographs.ids, photographs, None)
    given = feature_files.read(features, logits=logits, ids=ids)
    if options.data_dir is None:
        return Choice(given.name, given.ids, None, given)
    if not given.named:
        raise ValueError(
            f"{features} does not say which photograph each row belongs to: list the files in the "
            f"order of its rows with --ids"
        )
    photographs = images.read_pool(options, labelled=False)
    unknown = sorted(set(given.ids) - set(photographs.ids))
    if unknown:
        raise ValueError(
            f"{features} has rows for files that are not in {photographs.name}: "
            f"{first_few(unknown)}"
        )
    return Choice(photographs.name, given.ids, photographs, given)


def look(choice: Choice, options: images.ImageOptions) -> Seen:
    """The pool of a choice: as it was given, or as a network sees the photographs."""
    if choice.features is not None:
        given = choice.features
        return Seen(given.pool, f"the features in {given.name}", given.files)
    assert choice.photographs is not None
    kept, cache = images.extract(choice.photographs, options)
    pool = balal.pool(cache.features, scores=cache.scores)
    return Seen(pool, f"what {cache.manifest['source']} saw", cache.manifest, kept)


def check_budget(choice: Choice, budget: int, *, labelled: int) -> None:
    """Raises ValueError unless as many images are left."""
    left = len(choice.ids) - labelled
    if budget > left:
        raise ValueError(
            f"--budget asks for {budget} images, but only {left} of {choice.name} are not "
            f"labelled: ask for fewer"
        )
