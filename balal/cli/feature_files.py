"""Features that somebody already has: an array file, or a folder of `balal extract`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import balal
from balal import array_file, feature_cache
from balal.cli import table
from balal.wording import first_few

_KIND = "an .npy or .npz file of plain arrays"
_SCORES = ("entropy", "margin", "least_confidence", "predicted")


@dataclass(frozen=True)
class FeatureFile:
    """Rows to pick from.

    Attributes:
      name: of the file or folder.
      ids: one a row: names, or row numbers.
      named: whether the ids are names.
      pool: the features, and the scores where there are any.
      files: which files they came from, for the record.
    """

    name: str
    ids: Sequence[str]
    named: bool
    pool: balal.Pool
    files: dict[str, Any]


def read(
    features: str | Path,
    *,
    logits: str | Path | None = None,
    ids: str | Path | None = None,
    keep_logits: bool = False,
) -> FeatureFile:
    """The rows of a file or folder of features.

    Args:
      features: an .npy file [N, D]; an .npz file with `features`, and perhaps `logits` or scores,
        `ids`, and a `scale` that integer features are multiplied by; a folder of `balal extract`.
      logits: an .npy file [N, K], or an .npz file with `logits`.
      ids: a text file with a name for each row on a line.
      keep_logits: for strategies that need them beside the scores.

    Raises: FileNotFoundError; ValueError for what is none of these, for ids that are repeated or
      not one a row, and for what `balal.pool` refuses.
    """
    features = Path(features).expanduser()
    if features.is_dir():
        cache = feature_cache.read(features)
        arrays: dict[str, Any] = dict(cache.columns, ids=cache.ids)
    else:
        arrays = _arrays(features, "features")
    values = arrays["features"]
    if "scale" in arrays:
        values = values.astype(np.float32) * arrays["scale"]
    if logits is not None:
        arrays["logits"] = _arrays(Path(logits).expanduser(), "logits")["logits"]
        if len(arrays["logits"]) != len(values):
            raise ValueError(
                f"{logits} has {len(arrays['logits'])} rows, but {features} has {len(values)}: "
                f"give the logits of the same rows"
            )
    scored = "logits" not in arrays and set(_SCORES) <= set(arrays)
    scores = balal.Scores(*(jnp.asarray(arrays[name]) for name in _SCORES)) if scored else None
    try:
        pool = balal.pool(
            values,
            logits=arrays.get("logits"),
            scores=scores,
            keep_logits=keep_logits and "logits" in arrays,
        )
    except ValueError as error:  # No row of a file can be left out before it is read.
        raise ValueError(str(error).replace(" or take them out of candidates", "")) from error
    names = arrays.get("ids")
    if ids is not None:
        names = table.read_text(Path(ids)).splitlines()
    files = dict(features=str(features), logits=str(logits or ""), ids=str(ids or ""))
    if names is None:
        return FeatureFile(
            features.name, [str(row) for row in range(len(values))], False, pool, files
        )
    names = [str(name) for name in names]
    if len(names) != len(values):
        raise ValueError(
            f"{ids or features} has {len(names)} ids, but {features} has {len(values)} rows: give "
            f"each row one id"
        )
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = [name for name in names if name in seen or seen.add(name)]
        raise ValueError(
            f"{ids or features} has repeated ids, {first_few(twice)}: give each row its own"
        )
    return FeatureFile(features.name, names, True, pool, files)


def _arrays(path: Path, wanted: str) -> dict[str, Any]:
    """The arrays of a file by name, the wanted one among them."""
    names = ("features", "logits", "ids", "scale", *_SCORES)
    arrays = array_file.read(path, kind=_KIND, names=names)
    if "" in arrays:
        arrays = {wanted: arrays[""]}
    if wanted not in arrays:
        there = list(array_file.headers(path, kind=_KIND))
        raise ValueError(
            f"{path} has no array {wanted!r}; it has {first_few(there) or 'none'}: save it under "
            f"that name"
        )
    if arrays[wanted].ndim != 2:
        raise ValueError(
            f"{wanted} in {path} must be one row of numbers for each image, [N, "
            f"{'D' if wanted == 'features' else 'K'}], got shape {arrays[wanted].shape}"
        )
    return arrays
