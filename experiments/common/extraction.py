"""Images to features: a feature cache, made once on all local devices while threads decode, and
read from then on."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import balal
from balal import data
from balal.data import cache
from balal.models import preprocessing, sources
from balal.models import weights as files

# Rows that a kill costs at most.
SHARD = 1024
SCORES = [field.name for field in fields(balal.Scores)]


def source(
    name: str, weights: str | None = None, *, crop: float | None = None
) -> tuple[sources.Source, Path]:
    """A source model by name and the file of its weights: the one given, or that of an installed
    package.

    crop: in place of the model's own, 1.0 for images that are all object.

    Raises: ValueError for a name that is none; FileNotFoundError, with the command that installs
    weights where there is one.
    """
    if name not in sources.SOURCES:
        raise ValueError(
            f"there is no source model {name!r}; there are {', '.join(sources.SOURCES)}"
        )
    found = sources.SOURCES[name]
    if crop is not None and not 0 < crop <= 1:
        raise ValueError(f"the crop is a share of the image, above 0 and at most 1, got {crop:g}")
    path = Path(weights) if weights is not None else files.installed(name)
    return (found if crop is None else replace(found, crop=crop)), path


def manifest(
    source: sources.Source, name: str, weights: Path, images: data.Images
) -> dict[str, Any]:
    """What features depend on, as JSON values."""
    return dict(
        source=name,
        weights=dict(file=weights.name, sha256=files.sha256(weights)),
        preprocessing={
            field: getattr(source, field)
            for field in ("size", "crop", "interpolation", "mean", "std", "padding", "epsilon")
        },
        images=dict(name=images.name, fingerprint=images.fingerprint),
    )


def folder_name(manifest: dict[str, Any], dtype: str) -> str:
    """A name for the feature cache of a manifest, another for each: what one wants to read of it,
    and a part of its sha256."""
    digest = hashlib.sha256(json.dumps([manifest, dtype]).encode()).hexdigest()
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', manifest['images']['name'])}-{manifest['source']}-{digest[:8]}"


def extract(
    source: sources.Source,
    weights: Path,
    images: data.Images,
    folder: Path,
    made_from: dict[str, Any],
    *,
    batch: int = 32,
    dtype: str = "float16",
) -> cache.Cache:
    """The feature cache of all images at `folder`, made or finished first where need be.

    Args:
      source, weights, made_from: from `source` and `manifest` above.
      batch: images on each device at a time.
      dtype: of the stored features, float16 or float32; they are computed, and scores taken, in
        float32.

    Raises: ValueError where the folder holds something else, or features overflow, with the images.
    """
    total = len(images)
    size = jax.eval_shape(
        source.apply, sources.shapes(source), jnp.zeros((1, source.size, source.size, 3))
    )[0].shape[1]
    columns = dict(features=((size,), dtype)) | {
        score: ((), "int32" if score == "predicted" else "float32") for score in SCORES
    }
    # Before the folder is made, which wrong weights would leave behind.
    params = sources.load(source, weights)
    done = cache.begin(
        folder,
        made_from,
        columns,
        ids=images.ids,
        labels=images.labels,
        class_names=images.class_names,
    )
    if done < total:
        with tqdm(
            total=total,
            initial=done,
            unit="image",
            desc=f"{made_from['source']} sees {images.name}",
            disable=None,
        ) as progress:
            for first, shard in _shards(_seen(source, params, images, done, batch, progress), done):
                bad = np.flatnonzero(
                    ~(np.abs(shard["features"]) <= np.finfo(dtype).max).all(axis=1)
                )
                if bad.size:
                    named = ", ".join(images.ids[first + row] for row in bad[:5])
                    raise ValueError(
                        f"{bad.size} images have features that {dtype} cannot hold, the first are "
                        f"{named}: use float32"
                    )
                cache.write(folder, first, shard)
    return cache.read(folder, manifest=made_from, verify=done == total)


def _seen(
    source: sources.Source,
    params: sources.Params,
    images: data.Images,
    done: int,
    batch: int,
    progress,
) -> Iterator[dict[str, Any]]:
    """The columns of one batch after another, in NumPy. While the devices compute one, threads
    decode the next and the last is fetched."""
    mesh = balal.sharding.mesh(devices=jax.local_devices())
    together = batch * mesh.size

    @jax.jit
    def see(params, images):
        features, logits = balal.sharding.by_rows(source.apply, (None, 0), (0, 0))(params, images)
        scores = balal.score(logits)
        return dict(features=features) | {score: getattr(scores, score) for score in SCORES}

    def fetched(columns, size):
        progress.update(size)
        return {column: np.asarray(values)[:size] for column, values in columns.items()}

    with jax.set_mesh(mesh):
        before = None
        rows = range(done, len(images.ids))
        for pictures in data.batches(
            images, together, rows=rows, prepare=partial(preprocessing.prepare, source=source)
        ):
            size = len(pictures.rows)
            # The last batch is filled up, so that one program sees all.
            filled = np.pad(pictures.images, ((0, together - size), (0, 0), (0, 0), (0, 0)))
            columns = see(params, jax.device_put(filled, balal.sharding.rows(mesh)))
            if before is not None:
                yield fetched(*before)
            before = columns, size
        if before is not None:
            yield fetched(*before)


def _shards(batches: Iterator[dict[str, Any]], first: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Batches put together to shards of at least `SHARD` rows, each with its first row."""
    waiting, size = [], 0
    for columns in batches:
        waiting.append(columns)
        size += len(columns["features"])
        if size >= SHARD:
            yield first, _joined(waiting)
            first, waiting, size = first + size, [], 0
    if waiting:
        yield first, _joined(waiting)


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
