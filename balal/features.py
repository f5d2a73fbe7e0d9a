"""Images to features: what a source model computes for every image, once, kept in a folder and read
from there afterwards.

    import balal
    from balal import data, features

    images = data.folder("photos/")
    seen = features.extract(images, "features/photos")
    pool = balal.pool(seen.features, scores=seen.scores)

All local devices compute while threads decode; memory stays bounded. An interrupted run resumes
where it stopped. `balal.feature_cache` has the layout of the folder, and reads it without Flax.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from balal import feature_cache, folder_lock, sharding
from balal.data.batching import batches
from balal.data.images import Images
from balal.feature_cache import Cache
from balal.kernels import uncertainty
from balal.models import preprocessing, sources
from balal.models import weights as weight_files
from balal.models.sources import Pretrained
from balal.types import Scores
from balal.wording import first_few

# The most rows that an interruption can cost, or a batch if that is larger.
SHARD = 1024
_SCORES = [field.name for field in fields(Scores)]
_PREPROCESSING = ("image_size", "crop", "interpolation", "mean", "std", "padding", "epsilon")

Progress = Callable[[int, int], None]
"""Called with how many images are done, and how many there are."""


def extract(
    images: Images,
    folder: Path | str,
    *,
    source: str | Pretrained = "efficientnet_lite0",
    batch_size: int = 32,
    dtype: Literal["float16", "float32"] = "float16",
    progress: Progress | None = None,
) -> Cache:
    """The features and scores of all images, as a feature cache at `folder`, which is first made or
    finished if necessary; meanwhile no other process can write there.

    Args:
      images: from `balal.data`.
      folder: a new one, or one with the same images, source, weights and dtype.
      source: a name in `balal.models.sources.SOURCES` whose weights are installed, or the result of
        `balal.models.sources.pretrained`.
      batch_size: images on each device at a time.
      dtype: of the stored features; they are computed, and scores taken, in float32.
      progress: called after each batch, and first with what is finished already.

    Raises: ValueError if the folder holds something else, an image cannot be read, or features
      overflow, with the images; and as `pretrained` and `sources.load` do.
    """
    model = sources.pretrained(source) if isinstance(source, str) else source
    network, made_from, total = model.source, _manifest(images, model), len(images)
    shape = (1, network.image_size, network.image_size, 3)
    example = jax.eval_shape(network.apply, sources.shapes(network), jnp.zeros(shape))
    columns: dict[str, Any] = dict(features=((example[0].shape[1],), dtype))
    columns |= {name: ((), "int32" if name == "predicted" else "float32") for name in _SCORES}
    # Before the folder is made, as wrong weights would leave it behind.
    params = model.load()
    with folder_lock.locked(Path(folder), read_only=True):
        done = feature_cache.begin(
            folder,
            made_from,
            columns,
            ids=images.ids,
            labels=images.labels,
            class_names=images.class_names,
        )
        if done < total:
            seen = _see(network, params, images, done, batch_size, progress or _silent)
            for first, shard in _shards(seen, done):
                fits = (np.abs(shard["features"]) <= np.finfo(dtype).max).all(axis=1)
                if not fits.all():
                    named = [images.ids[first + row] for row in np.flatnonzero(~fits)]
                    raise ValueError(
                        f"{dtype} cannot hold the features of {first_few(named)}: use dtype=float32"
                    )
                feature_cache.write(folder, first, shard)
    return feature_cache.read(folder, manifest=made_from, verify=done == total)


def folder_name(
    images: Images,
    *,
    source: str | Pretrained = "efficientnet_lite0",
    dtype: Literal["float16", "float32"] = "float16",
) -> str:
    """A name for the folder of `extract`, different for each set of images, source model, weights
    and dtype: the names of the images and the source, and part of a sha256 of everything."""
    model = sources.pretrained(source) if isinstance(source, str) else source
    digest = hashlib.sha256(json.dumps([_manifest(images, model), dtype]).encode()).hexdigest()
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', images.name)}-{model.name}-{digest[:8]}"


def _manifest(images: Images, model: Pretrained) -> dict[str, Any]:
    """What features depend on, as JSON values."""
    return dict(
        source=model.name,
        weights=dict(
            file=model.weights.name,
            sha256=weight_files.sha256(model.weights),
            # Absent without one, so that features kept by earlier versions are found.
            **({} if model.entry is None else dict(entry=model.entry)),
        ),
        preprocessing={name: getattr(model.source, name) for name in _PREPROCESSING},
        images=dict(name=images.name, fingerprint=images.fingerprint),
    )


def _see(
    source: sources.Source,
    params: sources.Params,
    images: Images,
    done: int,
    batch_size: int,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    """The columns of one batch after another, in NumPy. While the devices compute one, threads
    decode the next and the last is fetched."""
    mesh = sharding.mesh(devices=jax.local_devices())
    together, total = batch_size * mesh.size, len(images)

    @jax.jit
    def see(params, images):
        features, logits = sharding.by_rows(source.apply, (None, 0), (0, 0))(params, images)
        scores = uncertainty.score(logits)
        return dict(features=features) | {name: getattr(scores, name) for name in _SCORES}

    def fetched(columns, rows):
        progress(int(rows[-1]) + 1, total)
        return {column: np.asarray(values)[: len(rows)] for column, values in columns.items()}

    progress(done, total)
    with jax.set_mesh(mesh):
        before = None
        for batch in batches(
            images,
            together,
            rows=range(done, total),
            prepare=partial(preprocessing.prepare, source=source),
        ):
            # The last batch is filled up, so that one program serves all.
            missing = together - len(batch.rows)
            filled = np.pad(batch.images, ((0, missing), (0, 0), (0, 0), (0, 0)))
            columns = see(params, jax.device_put(filled, sharding.rows(mesh)))
            if before is not None:
                yield fetched(*before)
            before = columns, batch.rows
        if before is not None:
            yield fetched(*before)


def _shards(batches: Iterator[dict[str, Any]], first: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Batches joined into shards of at least `SHARD` rows, each with its first row."""
    waiting, rows = [], 0
    for columns in batches:
        waiting.append(columns)
        rows += len(columns["features"])
        if rows >= SHARD:
            yield first, _joined(waiting)
            first, waiting, rows = first + rows, [], 0
    if waiting:
        yield first, _joined(waiting)


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}


def _silent(done: int, total: int) -> None:
    """No progress."""
