"""What `balal pick` chooses from: photographs, features, or the features of photographs."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import balal
from balal import data
from balal.cli import feature_files, image_options, images, lists
from balal.wording import first_few, quoted

Early = Callable[[Sequence[str], Collection[str], str], Collection[str]]


@dataclass(frozen=True)
class Choice:
    """What there is to choose from, before a network has looked at it.

    Attributes:
      name: for messages.
      ids: one a row: file names, or whatever the rows are called.
      photographs: those to look at, under the same ids in any order; None: there are none.
      features: those that were given; None: a network is to look at the photographs.
      listed: the ids that may be asked; None: all.
    """

    name: str
    ids: Sequence[str]
    photographs: data.Images | None
    features: feature_files.FeatureFile | None
    listed: frozenset[str] | None = None

    @property
    def contents(self) -> dict[str, str]:
        """The sha256 of each photograph, in hexadecimal digits; empty where it is not known."""
        if self.photographs is None:
            return {}
        found = dict(zip(self.photographs.ids, self.photographs.contents, strict=False))
        return {file: found[file].hex() for file in self.ids if file in found}

    @property
    def copies(self) -> dict[str, str]:
        """Each photograph that is a copy of an earlier one, byte for byte, with that one."""
        first: dict[str, str] = {}
        # One that may be asked is no copy of one that may not.
        in_turn = sorted(self.contents.items(), key=lambda item: not self.may_be_asked(item[0]))
        return {
            file: first[content]
            for file, content in in_turn
            if first.setdefault(content, file) != file
        }

    def may_be_asked(self, file: str) -> bool:
        """Whether it is listed, or there is no list."""
        return self.listed is None or file in self.listed

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
    options: image_options.ImageOptions,
    features: str | None,
    *,
    logits: str | None = None,
    ids: str | None = None,
    keep_logits: bool = False,
    early: Early | None = None,
) -> Choice:
    """What there is to choose from: photographs, features, or the features of photographs.

    Args:
      keep_logits: as in `feature_files.read`.
      early: takes all ids, those that may be asked and the name of the folder or file, before a
        photograph is opened; returns the ids that are answered, and raises what can be told now.

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
        listed: frozenset[str] | None = None

        def also(every: Sequence[str], chosen: Collection[str]) -> Collection[str]:
            nonlocal listed
            listed = frozenset(chosen)
            return [] if early is None else early(every, chosen, _name_of(options))

        photographs = images.read_pool(options, labelled=False, also=also)
        return Choice(photographs.name, photographs.ids, photographs, None, listed)
    given = feature_files.read(features, logits=logits, ids=ids, keep_logits=keep_logits)
    chosen = frozenset(given.ids)
    if options.files is not None:
        names = lists.read_list(options.files)
        chosen = frozenset(lists.find(options.files, names, given.ids, given.name))
    if options.data_dir is None:
        if early is not None:
            early(given.ids, chosen, given.name)
        return Choice(given.name, given.ids, None, given, chosen)
    if not given.named:
        raise ValueError(
            f"{features} does not say which photograph each row belongs to: list the files in the "
            f"order of its rows with --ids"
        )

    def all_of_them(every: Sequence[str], _: Collection[str]) -> Collection[str]:
        unknown = sorted(set(given.ids) - set(every))
        if unknown:
            raise ValueError(
                f"{features} has rows for files that are not in {_name_of(options)}: "
                f"{first_few(unknown)}"
            )
        if early is not None:
            early(given.ids, chosen, _name_of(options))
        return given.ids

    photographs = images.read_pool(options, labelled=False, also=all_of_them)
    unknown = sorted(set(given.ids) - set(photographs.ids))
    if unknown:
        raise ValueError(
            f"{features} has rows for files that are not in {photographs.name}: "
            f"{first_few(unknown)}"
        )
    return Choice(photographs.name, given.ids, photographs, given, chosen)


def _name_of(options: image_options.ImageOptions) -> str:
    assert options.data_dir is not None
    return options.data_dir.resolve().name


def look(choice: Choice, options: image_options.ImageOptions, *, left: np.ndarray) -> Seen:
    """The pool of a choice: as it was given, or as a network sees the photographs.

    Args:
      left: bool [N], the rows that may be asked or are answered.
    """
    if choice.features is not None:
        given = choice.features
        pool = given.pool
        if not left.all():
            pool = replace(pool, candidates=pool.candidates & left)
        return Seen(pool, f"the features in {given.name}", given.files)
    assert choice.photographs is not None
    kept, cache = images.extract(choice.photographs, options)
    pool = balal.pool(cache.features, scores=cache.scores, candidates=left)
    return Seen(pool, f"what {cache.manifest['source']} saw", cache.manifest, kept)


def asked_once(choice: Choice, labels: Mapping[str, str]) -> np.ndarray:
    """Which rows may be asked or are answered: bool [N]. Of the copies of a photograph that is one
    of them, or those that are answered.

    Raises: ValueError where copies have different labels.
    """
    copies = choice.copies
    answered: dict[str, str] = {}
    for file, label in labels.items():
        first = copies.get(file, file)
        if labels.get(answered.setdefault(first, file)) != label:
            raise ValueError(
                f"{quoted(answered[first])} and {quoted(file)} are the same photograph and have "
                f"different labels, {quoted(labels[answered[first]])} and {quoted(label)}: keep "
                f"the right one"
            )
    asked = {file for file in choice.ids if choice.may_be_asked(file)}
    return np.array(
        [
            file in labels or (file in asked and file not in copies and file not in answered)
            for file in choice.ids
        ]
    )


def check_budget(name: str, budget: int, *, left: int) -> None:
    """Raises ValueError unless as many images of that name are left."""
    if budget > left:
        raise ValueError(
            f"--budget asks for {budget} images, but only {left} of {name} are not labelled, each "
            f"photograph counted once: {'ask for fewer' if left else 'there is nothing to ask'}"
        )
