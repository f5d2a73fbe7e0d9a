"""What strategies compute from a pool alone: once, kept with it, and again only when its features
or candidates change."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from balal import array_file, check
from balal.pools import checksums
from balal.strategies.base import Strategy, alone, member, parts, prepares
from balal.types import Pool, Prepared

_FORMAT = 1


def prepare(strategy: Strategy, pool: Pool, *, path: str | os.PathLike[str] | None = None) -> Pool:
    """The pool with what the strategy, and every strategy in it, can compute before any label:
    typicality, neighbours, clusters, the scale of a kernel.

    `simulate` and `init` do this themselves if it is missing; a pool that has it saves them the
    time, every time. What was made from these features and candidates is kept.

    Args:
      strategy: to prepare for.
      pool: to prepare.
      path: a file to keep it in. It is read if it was made from these features and candidates, and
        written if it is missing or outdated.

    Raises: ValueError if the pool lacks features that the strategy needs, or the file is something
      else.

    >>> from balal.strategies import strategy
    >>> pool = prepare(strategy("posterior"), Pool(jnp.eye(3)))
    >>> typical, nearest = pool.prepared["surroundings"].value
    >>> typical.tolist()
    [1.0, 1.0, 1.0]
    """
    check.strategy(strategy)
    # Scores and logits, which may be those of a model still to be fitted, have no part in it.
    check.pool(pool, needs=tuple(name for name in strategy.needs if name == "features"))
    pool = fresh(strategy, pool)
    if path is None:
        return prepare_missing(strategy, pool)
    kept = _read(strategy, pool, Path(path))
    made = prepare_missing(strategy, kept)
    if keys(strategy) and (made is not kept or kept is pool):
        _write(strategy, made, Path(path))
    return made


def keys(strategy: Strategy) -> list[str]:
    """The keys of all that a strategy prepares.

    >>> from balal.strategies import strategy
    >>> keys(strategy("posterior+balance")), keys(strategy("ent"))
    (['surroundings'], [])
    """
    return list(_preparing(strategy))


def prepare_missing(strategy: Strategy, pool: Pool) -> Pool:
    """The pool with what it still lacks. Inside jit, traced pools are prepared in the program."""
    missing = {key: part for key, part in _preparing(strategy).items() if key not in pool.prepared}
    if not missing:
        return pool
    source = alone(pool)
    with _now(source):
        made_from = checksums(source)
        made = {key: Prepared(part.prepare(source), made_from) for key, part in missing.items()}
    return replace(pool, prepared=pool.prepared | made)


def fresh(
    strategy: Strategy,
    pool: Pool,
    *,
    kept: dict[str, Prepared] | None = None,
    now: Array | None = None,
) -> Pool:
    """The pool without what was made from other features or candidates.

    Args:
      strategy: whose keys are compared.
      pool: to go through.
      kept: preparations from elsewhere, used if the pool has no valid ones.
      now: the checksums of features and candidates, if known.
    """
    wanted = keys(strategy)
    both = [
        {key: value for key, value in source.items() if key in wanted}
        for source in (kept or {}, pool.prepared)
    ]
    if not any(both) or traced((alone(pool), both)):
        return pool
    if now is None:
        with _now(pool.features):
            now = checksums(alone(pool))
    sums = np.asarray(now)
    others = {key: value for key, value in pool.prepared.items() if key not in wanted}
    good = [
        {key: value for key, value in source.items() if np.array_equal(value.made_from, sums)}
        for source in both
    ]
    return replace(pool, prepared=others | good[0] | good[1])


def _now(arrays: Any) -> AbstractContextManager[Any]:
    """In which arrays whose values are known are worked on at once, even where a jit around it only
    traces."""
    tracing = isinstance(jnp.zeros(()) + 0, Tracer)
    known = tracing and not traced(arrays)
    return jax.ensure_compile_time_eval() if known else nullcontext()


def traced(arrays: Any) -> bool:
    """Whether only shapes are known, not values."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arrays))


def _preparing(strategy: Strategy) -> dict[str, Any]:
    """The strategies in a strategy that have something to prepare, by key."""
    return {member(part, "prepared_key"): part for part in parts(strategy) if prepares(part)}


# The file. Values have the structure that `prepare` gives them.


def _write(strategy: Strategy, pool: Pool, path: Path) -> None:
    arrays: dict[str, Any] = dict(format=np.int64(_FORMAT), keys=np.array(keys(strategy)))
    for number, key in enumerate(keys(strategy)):
        kept = pool.prepared[key]
        arrays[f"made_from_{number}"] = np.asarray(kept.made_from)
        for part, leaf in enumerate(jax.tree.leaves(kept.value)):
            arrays[f"value_{number}_{part}"] = np.asarray(leaf)
    array_file.write(path, arrays)


def _read(strategy: Strategy, pool: Pool, path: Path) -> Pool:
    """The pool with what the file has for it; a file that is missing or of another pool has
    nothing."""
    if not path.exists():
        return pool
    arrays = array_file.read(path, kind="file of what was prepared")
    try:
        if int(arrays["format"]) != _FORMAT:
            raise ValueError(f"format {int(arrays['format'])}, expected {_FORMAT}")
        written = arrays["keys"].tolist()
        found = {}
        for key, part in _preparing(strategy).items():
            if key in pool.prepared or key not in written:
                continue
            number = written.index(key)
            shapes, structure = jax.tree.flatten(jax.eval_shape(part.prepare, alone(pool)))
            leaves = [arrays[f"value_{number}_{index}"] for index in range(len(shapes))]
            made_from = arrays[f"made_from_{number}"]
            if all(
                (leaf.shape, leaf.dtype) == (expected.shape, expected.dtype)
                for leaf, expected in zip(leaves, shapes, strict=True)
            ):
                value = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])
                found[key] = Prepared(value, jnp.asarray(made_from, jnp.uint32))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path} was not written by balal.prepare ({error}): choose another path"
        ) from None
    return fresh(strategy, replace(pool, prepared=pool.prepared | found))
