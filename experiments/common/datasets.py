"""Data sets of frozen features: the embedded long-tailed CIFAR-100, or any npz file of either
layout.

Compact layout, a pool file and a test file: `features` int8 `[N, D]` with `scale` `[D]` (or plain
floating-point `features`), `labels`, and in the pool file the source model's `entropy`, `margin`,
`least_confidence` and `predicted`. Full layout, one file: `pool_features`, `pool_labels`,
`test_features`, `test_labels`. Both may have `class_names`.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import balal
from balal import array_file, imbalance
from balal.data import select
from balal.heads import scaling
from balal.models import weights
from balal.wording import first_few

HERE = Path(__file__).resolve().parent.parent / "data"
EMBEDDED = {
    "cifar100_lite0_compact_pool.npz": (
        "99c88c48c339e380ccca113a400df543e24d51f33bf5fea09914a80dc0d5c812"
    ),
    "cifar100_lite0_compact_test.npz": (
        "67ecd5a23c223f634204045f7ac3fb3281390d495636cae5a2da7796133bc87e"
    ),
    "aggarwal_tables.json": "75e9a7b3700f48b9ae2c7206a2ea553d5819151e4fbf7adaf3e67370ce273e6d",
    "induced_counts.json": "00994dd7c785a1d4259e606858f4547f374f68d34a5dda1a5c9853528b25f651",
}


@dataclass(frozen=True)
class Dataset:
    """A labelled pool and a test set, as features of one network.

    Attributes:
      features: [N, D], what strategies go by.
      labels: int32 [N].
      test_features: [M, D].
      test_labels: int32 [M].
      scores: those of the source model, or None.
      num_classes: `C`.
      compact: whether the features are whitened components already, which decides how they are
        scaled for a head.
      files: the sha256 of every file it came from, by name.
      network: the source model and the images (`networks.Network`), where the features were made
        from images here.
    """

    features: np.ndarray
    labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray
    scores: balal.Scores | None
    num_classes: int
    compact: bool
    files: dict[str, str]
    network: Any = None

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each class in the pool: int [C]."""
        return np.bincount(self.labels, minlength=self.num_classes)

    @property
    def origin(self) -> str:
        """The files its features came from, by the first eight digits of their sha256."""
        return "+".join(
            digest[:8] for digest in list(self.files.values())[: 2 if self.compact else 1]
        )

    @property
    def answers(self) -> str:
        """A sha256 of all labels and of how the rows were divided, which feature files do not
        show."""
        return hashlib.sha256(
            b"".join(
                np.asarray(labels, "<i8").tobytes() for labels in (self.labels, self.test_labels)
            )
        ).hexdigest()


def load(
    features: str | None = None,
    *,
    test_features: str | None = None,
    scores: str | None = None,
    classifier: str | None = None,
    pool_rows: int | None = None,
) -> Dataset:
    """The embedded CIFAR-100, or the data set of `features`.

    Args:
      features: an npz file in the full layout, or a pool file in the compact one.
      test_features: the test file that belongs to a compact pool file; by default the one with
        `test` in its name instead of `pool`.
      scores: an npz file with the source model's scores of the same rows, instead of those in the
        pool file.
      classifier: an npz file, or one that `balal.models.weights` reads, with the source
        classifier's `weight` [K, D] and `bias` [K]: scores of `features @ weight.T + bias`.
      pool_rows: keep only this many rows of the pool, the first ones (for small runs).

    Raises: FileNotFoundError; ValueError for a damaged or unsuitable file, with what was found in
      it.
    """
    if scores and classifier:
        raise ValueError(
            "--scores and --classifier both give the source model's scores: pass only one of them"
        )
    path = Path(features) if features else embedded("cifar100_lite0_compact_pool.npz")
    arrays = _arrays(path)
    files = {path.name: weights.sha256(path)}
    compact = "pool_features" not in arrays
    if compact:
        pool, test = arrays, {}
        test_path = (
            Path(test_features)
            if test_features
            else path.with_name(path.name.replace("pool", "test"))
        )
        if not features:
            test_path = embedded("cifar100_lite0_compact_test.npz")
        elif test_path == path or not test_path.exists():
            raise FileNotFoundError(
                f"{path} has no test set and there is none beside it: put it there, with test "
                f"instead of pool in its name, or pass test_features=FILE"
            )
        test = _arrays(test_path)
        files[test_path.name] = weights.sha256(test_path)
    else:
        pool, test = (
            {name.removeprefix(f"{part}_"): array for name, array in arrays.items()}
            for part in ("pool", "test")
        )
    dataset = _dataset(path, pool, test, compact, files)
    if scores:
        dataset = replace(
            dataset,
            scores=_scores_of(Path(scores), pool),
            files={**dataset.files, Path(scores).name: weights.sha256(Path(scores))},
        )
    elif classifier:
        logits = _logits(Path(classifier), dataset.features)
        files = {**dataset.files, Path(classifier).name: weights.sha256(Path(classifier))}
        dataset = replace(dataset, scores=balal.pool(None, logits=logits).scores, files=files)
    return dataset if pool_rows is None else first_rows(dataset, pool_rows)


def from_arrays(features: str, labels: str) -> Dataset:
    """Features [N, D] and int [N] from two .npy files. A fifth of the rows of each class, at least
    one of two or more, is the test set; which, is fixed. There are no scores.

    Raises: FileNotFoundError; ValueError for what is no such array, or a class with one row only.
    """
    paths = Path(features), Path(labels)
    rows, answers = (array_file.read(path, kind="an .npy file").get("") for path in paths)
    if rows is None or answers is None:
        path = paths[0] if rows is None else paths[1]
        raise ValueError(f"{path} holds several arrays: an .npy file of one is needed here")
    rows, answers = _features_and_labels(paths[0], dict(features=rows, labels=answers))
    classes = int(answers.max()) + 1
    balal.check.labels(labels, answers, num_classes=classes)
    sizes = np.bincount(answers, minlength=classes)
    if single := np.flatnonzero(sizes == 1).tolist():
        raise ValueError(
            f"{paths[1]} has one row only of class {first_few(single)}: every class needs one for "
            f"the pool and one for the test set"
        )
    tested = np.where(sizes, np.maximum(sizes // 5, 1), 0)
    test = imbalance.subsample(jax.random.key(0), answers, tested)
    rest = np.setdiff1d(np.arange(len(answers)), test)
    files = {path.name: weights.sha256(path) for path in paths}
    return Dataset(
        rows[rest], answers[rest], rows[test], answers[test], None, classes, False, files
    )


def pool(dataset: Dataset) -> balal.Pool:
    """The pool of a data set, checked, without its labels."""
    return balal.pool(dataset.features, scores=dataset.scores)


def scaled(dataset: Dataset) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Pool and test set scaled for a head: (features float32 [N, D], labels [N]) and (features
    [M, D], labels [M]).

    Full features are standardised; compact ones are components whose variances mean something, and
    are not. Both are then divided by one number, so that rows have norm 1 on average. All
    statistics are the pool's.
    """
    rows, test = dataset.features, dataset.test_features
    if not dataset.compact:
        rows, test = scaling.standardise(rows, pool=rows), scaling.standardise(test, pool=rows)
    return (scaling.shrink(rows, pool=rows), dataset.labels), (
        scaling.shrink(test, pool=rows),
        dataset.test_labels,
    )


def absent_classes(dataset: Dataset) -> str:
    """Lines on the classes that have no rows in the pool or the test set; empty where there are
    none."""
    names = np.arange(dataset.num_classes).astype(str)
    if dataset.network is not None:
        names = np.array(dataset.network.pool.class_names)
    found = dataset.sizes > 0
    tested = np.bincount(dataset.test_labels, minlength=dataset.num_classes) > 0
    lines = []
    for absent, what in (
        (~found & ~tested, "at all, and still count as classes in the imbalance ratio"),
        (~found & tested, "in the pool but in the test set, where all of them will be wrong"),
        (found & ~tested, "in the test set, so that they do not count in the accuracy"),
    ):
        if absent.any():
            lines.append(
                f"Classes without rows {what} ({absent.sum()}): {first_few(names[absent])}."
            )
    if not found[0] and not tested[0] and names[0] == "0":
        lines.append("Labels count from 0: subtract 1 if yours count from 1.")
    return "\n".join(lines)


def is_paper_pool(dataset: Dataset) -> bool:
    """Whether this is CIFAR-100 with the class sizes of the paper's Table 1, so that its printed
    figures are comparable."""
    return dataset.sizes.tolist() == _json("induced_counts.json")["cifar100"]["counts"]


def paper_tables() -> dict[str, Any]:
    """The printed Tables 2 to 5 of Aggarwal, Popescu, Hudelot, WACV 2020."""
    return _json("aggarwal_tables.json")


def embedded(name: str) -> Path:
    """The path of an embedded file, after verifying its checksum."""
    path = HERE / name
    found = weights.sha256(path)
    if found != EMBEDDED[name]:
        raise ValueError(
            f"{path} is damaged: its sha256 is {found[:12]}..., not {EMBEDDED[name][:12]}...; "
            f"restore it with git checkout {path}"
        )
    return path


@cache
def _json(name: str) -> dict[str, Any]:
    return json.loads(embedded(name).read_text())


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of an npz file; nothing is unpickled."""
    arrays = array_file.read(path, kind="an npz file of plain arrays")
    if "" in arrays:
        raise ValueError(f"{path} is an .npy file: save its arrays by name, with np.savez")
    return arrays


def _take(path: Path, arrays: dict[str, np.ndarray], *names: str) -> list[np.ndarray]:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(arrays)}")
    return [arrays[name] for name in names]


def _dataset(
    path: Path,
    pool: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    compact: bool,
    files: dict[str, str],
) -> Dataset:
    features, labels = _features_and_labels(path, pool)
    test_features, test_labels = _features_and_labels(path, test)
    if features.shape[1] != test_features.shape[1]:
        raise ValueError(
            f"{path}: the pool has {features.shape[1]} features a row, but the test set has "
            f"{test_features.shape[1]}"
        )
    num_classes = (
        len(pool["class_names"])
        if "class_names" in pool
        else int(max(labels.max(), test_labels.max())) + 1
    )
    for name, values in (("pool labels", labels), ("test labels", test_labels)):
        balal.check.labels(f"{path}: {name}", values, num_classes=num_classes)
    scores = _scores(path, pool, len(labels)) if "entropy" in pool else None
    return Dataset(
        features, labels, test_features, test_labels, scores, num_classes, compact, files
    )


def _features_and_labels(
    path: Path, arrays: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    features, labels = _take(path, arrays, "features", "labels")
    if "scale" in arrays:
        features = features.astype(np.float32) * arrays["scale"]
    elif not np.issubdtype(features.dtype, np.floating):
        raise ValueError(
            f"{path} has {features.dtype} features without a scale to multiply them by"
        )
    if (
        features.ndim != 2
        or labels.shape != features.shape[:1]
        or not len(labels)
        or not np.issubdtype(labels.dtype, np.integer)
    ):
        raise ValueError(
            f"{path} must have features [N, D] and integer labels [N], got {features.shape} and "
            f"{labels.dtype} {labels.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise ValueError(f"{path} has NaN or infinite features in rows {first_few(bad)}")
    return features, labels.astype(np.int32)


def _scores(path: Path, arrays: dict[str, np.ndarray], rows: int) -> balal.Scores:
    entropy, margin, least_confidence, predicted = _take(
        path, arrays, "entropy", "margin", "least_confidence", "predicted"
    )
    for values in (entropy, margin, least_confidence, predicted):
        if values.shape != (rows,):
            raise ValueError(f"{path} must have one score a row, [{rows}], got {values.shape}")
    return balal.Scores(
        jnp.asarray(entropy),
        jnp.asarray(margin),
        jnp.asarray(least_confidence),
        jnp.asarray(predicted, jnp.int32),
    )


def _scores_of(path: Path, pool: dict[str, np.ndarray]) -> balal.Scores:
    """Scores from another file, after checking that its rows are the pool's."""
    arrays = _arrays(path)
    for name in ("index", "labels"):
        if name in arrays and name in pool and not np.array_equal(arrays[name], pool[name]):
            raise ValueError(
                f"{path} has scores of rows other than the pool's: the {name} of the two files "
                f"differ"
            )
    return _scores(path, arrays, len(pool["labels"]))


def _logits(path: Path, features: np.ndarray) -> jax.Array:
    tensors = _arrays(path) if path.suffix == ".npz" else weights.read(path)
    # `weight` and `bias`, with or without a prefix of the checkpoint's own: the matrix that fits
    # the features.
    stems = [
        name.removesuffix("weight")
        for name, tensor in tensors.items()
        if name.endswith("weight") and tensor.ndim == 2
    ]
    stems = [
        stem
        for stem in stems
        if f"{stem}bias" in tensors and tensors[f"{stem}weight"].shape[1] == features.shape[1]
    ]
    if len(stems) != 1:
        found = (
            "none"
            if not stems
            else f"{len(stems)} ({', '.join(stem + 'weight' for stem in stems[:3])})"
        )
        raise ValueError(
            f"{path} must hold one weight [K, {features.shape[1]}] with its bias [K], found {found}"
        )
    weight, bias = (
        jnp.asarray(tensors[f"{stems[0]}{part}"], jnp.float32) for part in ("weight", "bias")
    )
    if bias.shape != weight.shape[:1]:
        raise ValueError(
            f"{path} has {weight.shape[0]} rows of weights, but a bias of shape {bias.shape}"
        )
    return (
        jnp.matmul(jnp.asarray(features, jnp.float32), weight.T, precision="highest")
        + bias[None, :]
    )


def first_rows(dataset: Dataset, rows: int) -> Dataset:
    """The same data set with only the first rows of the pool."""
    if not 1 <= rows <= len(dataset.labels):
        raise ValueError(
            f"--pool_rows must lie between 1 and the {len(dataset.labels)} rows of the pool, got "
            f"{rows}"
        )
    scores = (
        None
        if dataset.scores is None
        else jax.tree.map(lambda values: values[:rows], dataset.scores)
    )
    network = dataset.network and replace(
        dataset.network, pool=select(dataset.network.pool, range(rows))
    )
    return replace(
        dataset,
        features=dataset.features[:rows],
        labels=dataset.labels[:rows],
        scores=scores,
        network=network,
    )
