"""What a selection costs, before anything is allocated: memory at its peak, and arithmetic."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from balal import check, loop, machine, pools, preparation, simulation
from balal.check.pools import feature_faults
from balal.machine import written
from balal.strategies.base import Strategy, member
from balal.types import Labelled, Pool, Scores

# About how many operations the scores take per logit: exponential, products, comparisons.
_A_LOGIT = 10
# What a process on CPUs takes to compile: the small programs of every selection, and each kernel of
# the largest one, whose memory the others use again; and the small programs of the loop's books. A
# kernel is what LLVM compiles: one fusion, however many instructions it has. Measured with jaxlib
# 0.10.2 on two cores.
_COMPILER, _A_KERNEL, _BOOKS = 70_000_000, 870_000, 13_000_000

# Below this, compiling on CPUs may itself run out of memory, which ends the process.
_TO_FIND_OUT = 500_000_000

# Bytes for each number in a row of features, class by class tables and columns of labels: more than
# any strategy of this library takes.
_ROUGH = 32


@dataclass(frozen=True)
class Cost:
    """What a selection takes.

    Attributes:
      bytes: peak memory, including the pool, over what the process held before there was one. On
        CPUs that includes what compiling takes, up to half a gigabyte.
      flops: floating-point operations, counting additions and products separately; None if the
        strategy does not say.
    """

    bytes: int
    flops: float | None


def estimate(
    strategy: Strategy,
    num_rows: int,
    num_features: int,
    num_source_classes: int,
    num_classes: int,
    budget: int,
    *,
    size: int | None = None,
    dtype: DTypeLike = jnp.float32,
    limit: int | None = None,
) -> Cost:
    """What `balal.simulate`, or `balal.init` and `balal.ask`, would cost on the present device,
    without a pool: nothing of its size is allocated.

    The memory is that of one process: the pool, which `balal.pool` copies to the device if it comes
    from NumPy; what is prepared from it; the memories before and after an `ask`, as states are
    values; and what the compiler reserves for each program. This takes as long as compiling them, a
    few seconds. It does not include what the caller holds, such as arrays that the pool was made
    from and earlier states. Measured peaks lie within a fifth of it; in small pools
    the compiler takes most of them: `python -m benchmarks.memory`.

    The operations are those of the plain form of each rule, which evaluates every row at every
    pick; k-center and balancing take far fewer if their bounds are tight.

    Args:
      strategy: any; without its `flops`, operations are unknown.
      num_rows, num_features, num_source_classes, num_classes: `N`, `D`, `K`, `C`; no features or
        source classes for a pool without features or scores.
      budget: labels to be bought.
      size: how many of them are asked for at once, for the memory of `init` and `ask`; None: that
        of `simulate`.
      dtype: of the features.
      limit: bytes available. A job that needs more is refused.

    Raises: ValueError for sizes that are not whole numbers, for a strategy that needs what the pool
      lacks, and if the memory would exceed `limit`, with what would fit; RuntimeError if the
      compiler for this device does not report what a program takes.

    >>> from balal.strategies import strategy
    >>> cost = estimate(strategy("random"), 1000, 4, 0, 3, 10)
    >>> cost.bytes > 1000 * 4 * 4, cost.flops
    (True, 0.0)
    """
    sizes = dict(
        num_rows=num_rows,
        num_features=num_features,
        num_source_classes=num_source_classes,
        num_classes=num_classes,
        budget=budget,
        **(dict() if size is None else dict(size=size)),
    )
    for name, value in sizes.items():
        least = 0 if name in ("num_features", "num_source_classes") else 1
        check.whole_number(name, value, least=least)
    if size is not None and size > budget:
        raise ValueError(f"size={size} is more than the budget, {budget}")
    check.strategy(strategy)
    needs = dict(features=num_features, scores=num_source_classes, logits=num_source_classes)
    missing = [name for name in strategy.needs if not needs[name]]
    if missing:
        raise ValueError(
            f"{strategy!r} needs {' and '.join(missing)}: pass num_features and num_source_classes "
            f"above 0"
        )
    flops = member(strategy, "flops")(num_rows, num_features, num_classes, budget)
    if flops is not None:
        flops += float(_A_LOGIT) * num_rows * num_source_classes

    pool = _made(partial(_pool, strategy, num_rows, num_features, num_source_classes, dtype))
    turns = list(_turns(strategy, pool, num_classes, budget, asking=size is not None))
    arrays, process = max(turn.bytes for turn in turns), 0
    if jax.default_backend() == "cpu":
        process = _COMPILER + _A_KERNEL * max(turn.kernels for turn in turns)
        process += _BOOKS * (size is not None)
    if limit is not None and arrays + process > limit:
        # All arrays have an entry for each row; at most this part of them one for each label too.
        # Programs for other sizes may have a few kernels more.
        most = int(0.99 * num_rows * (limit - process) / arrays)
        memory = _memory(strategy, pool, num_classes, budget)
        a_label = (memory.bytes - _memory(strategy, pool, num_classes, 1).bytes) / budget
        left = budget - (arrays + process - limit) / a_label if a_label else 0
        fits = [f"about {most:,} rows"] * (most >= 1) + [f"a budget of {int(left):,}"] * (left >= 1)
        raise ValueError(
            f"{num_rows:,} x {num_features:,} with num_classes={num_classes:,} and a budget of "
            f"{budget:,} needs {written(arrays + process)}, and there are {written(limit)}: "
            f"{'at most ' * bool(fits)}{' or '.join(fits) or 'nothing'} would fit; or lower "
            f"num_classes, keep fewer features, or choose a strategy that needs less"
        )
    return Cost(int(arrays + process), flops)


def check_memory(
    strategy: Strategy, pool: Pool, *, num_classes: int, budget: int, size: int | None = None
) -> None:
    """ValueError, with what would fit, for a selection that needs more memory than is free now.

    Only a pool that is large beside the free memory is estimated, as that takes some seconds.

    Args: as in `estimate`; the pool is held already.

    >>> from balal.strategies import strategy
    >>> check_memory(strategy("random"), Pool(jnp.eye(3)), num_classes=2, budget=2)
    """
    free = machine.available()
    num_features = 0 if pool.features is None else pool.features.shape[1]
    rough = _ROUGH * pool.num_rows * (num_features + num_classes + budget)
    if free is not None and rough >= free:
        _of_pool(strategy, pool, num_classes, budget, size, limit=free + _bytes(pool))


def what_fits(
    strategy: Strategy, pool: Pool, *, num_classes: int, budget: int, size: int | None = None
) -> str:
    """What to do about a selection that has run out of memory: what is free now, what it needs and
    what would fit, where there is the memory to find out.

    Args: as in `check_memory`.
    """
    free, less = machine.available(), "use fewer rows, fewer features or a smaller budget"
    if free is None:
        return f"{less}, or a strategy that needs less"
    there_is = f"{written(free)} are free now"
    if jax.default_backend() == "cpu" and free < _TO_FIND_OUT:
        return f"{there_is}, too little even to compile: {less}, or end what else takes memory"
    try:
        needed = _of_pool(strategy, pool, num_classes, budget, size, limit=free + _bytes(pool))
    except ValueError as error:
        return f"{there_is} beside the pool; {error}"
    except (MemoryError, RuntimeError):
        return f"{there_is}: {less}, or a strategy that needs less"
    return (
        f"{there_is} beside the pool, and it needs {written(needed.bytes)} with the pool: delete "
        f"what else holds memory, such as earlier states and the arrays that the pool was made "
        f"from, or {less}"
    )


def _of_pool(strategy, pool: Pool, num_classes, budget, size, *, limit: int) -> Cost:
    """`estimate` for a pool that is there."""
    source_classes = 1 if pool.logits is None else pool.logits.shape[1]
    return estimate(
        strategy,
        pool.num_rows,
        0 if pool.features is None else pool.features.shape[1],
        source_classes if pool.scores is not None or pool.logits is not None else 0,
        num_classes,
        budget,
        size=size,
        dtype=jnp.float32 if pool.features is None else pool.features.dtype,
        limit=limit,
    )


@dataclass(frozen=True)
class _Turn:
    """One program of a selection: the bytes that live while it runs, and its kernels, counted."""

    bytes: int
    kernels: int


@dataclass(frozen=True)
class _Shapes:
    """A pytree of which only the shapes of its arrays are known."""

    leaves: list[Any]
    structure: Any

    @property
    def bytes(self) -> int:
        return _bytes(self.leaves)


def _turns(strategy, pool: _Shapes, num_classes, budget, *, asking: bool) -> Iterator[_Turn]:
    """The programs of a selection in the order in which they run."""
    prepares = bool(preparation.keys(strategy))
    yield _turn(_faults, [pool])
    if asking or prepares:
        yield _turn(pools.checksums, [pool])
    if prepares:
        prepare = partial(preparation.prepare_missing, strategy)
        yield _turn(lambda pool: prepare(pool).prepared, [pool])
        pool = _made(prepare, pool)
    # A simulation makes room for its budget itself.
    room = budget if asking else 0
    start, key = _made(partial(_start, room)), _made(partial(jax.random.key, 0))
    column = _made(lambda pool: jnp.zeros(pool.num_rows, jnp.int32), pool)
    if not asking:
        simulate = partial(simulation._simulate, strategy, budget, num_classes)
        yield _turn(
            lambda pool, labels, start, key: simulate(pool, labels, start, key, None),
            [pool, column, start, key],
        )
        return
    begin = partial(loop._begin, strategy, budget, num_classes)
    yield _turn(lambda *inputs: begin(*inputs[:2], *inputs[1:]), [pool, start, key])
    memory = _memory(strategy, pool, num_classes, budget)
    # The memory that it starts from belongs to the state that the caller holds.
    ask = partial(loop._ask, strategy)
    yield _turn(
        lambda pool, memory, start, size: ask(pool, memory, start, start, size),
        [pool, memory, start, _made(lambda: jnp.int32(0))],
    )


def _turn(program: Any, inputs: list[_Shapes]) -> _Turn:
    """inputs: the arrays that are held while the program runs, whether it reads them or not."""

    def run(*inputs_leaves):
        return program(*_joined(inputs, inputs_leaves))

    compiled = jax.jit(run).lower(*(shapes.leaves for shapes in inputs)).compile()
    reserved = compiled.memory_analysis()
    if reserved is None:
        raise RuntimeError(
            f"the compiler for {jax.default_backend()} does not report what memory a program takes"
        )
    own = reserved.temp_size_in_bytes + reserved.output_size_in_bytes
    alive = sum(shapes.bytes for shapes in inputs)
    return _Turn(alive + own, (compiled.as_text() or "").count(" fusion("))


def _made(function: Any, *inputs: _Shapes) -> _Shapes:
    """The shapes of what a function makes."""
    structures = []

    def run(*leaves):
        made, structure = jax.tree.flatten(function(*_joined(inputs, leaves)))
        structures.append(structure)
        return made

    leaves = jax.eval_shape(run, *(shapes.leaves for shapes in inputs))
    return _Shapes(leaves, structures[0])


def _joined(inputs: Any, leaves: Any) -> list[Any]:
    return [
        jax.tree.unflatten(shapes.structure, own)
        for shapes, own in zip(inputs, leaves, strict=True)
    ]


def _bytes(arrays: Any) -> int:
    # A key has no size of its own.
    return sum(leaf.size * getattr(leaf.dtype, "itemsize", 8) for leaf in jax.tree.leaves(arrays))


# What a selection holds.


def _pool(strategy, num_rows, num_features, num_source_classes, dtype) -> Pool:
    column = jnp.zeros(num_rows, jnp.float32)
    scores = Scores(column, column, column, jnp.zeros(num_rows, jnp.int32))
    logits = "logits" in strategy.needs
    return Pool(
        features=jnp.zeros((num_rows, num_features), dtype) if num_features else None,
        scores=scores if num_source_classes else None,
        logits=jnp.zeros((num_rows, num_source_classes), jnp.float32) if logits else None,
        candidates=jnp.zeros(num_rows, bool),
    )


def _start(budget) -> Labelled:
    rows = jnp.zeros(budget, jnp.int32)
    return Labelled(rows, rows, jnp.int32(0), rows)


def _memory(strategy, pool: _Shapes, num_classes, budget) -> _Shapes:
    def begin(pool, key):
        start = _start(budget)
        return loop._begin(strategy, budget, num_classes, pool, start, start, key)

    return _made(begin, pool, _made(partial(jax.random.key, 0)))


def _faults(pool: Pool) -> Any:
    return None if pool.features is None else feature_faults(pool.features, 1)
