"""A target model's order of the rows for each class, and where in it labels of the class give way
to those of the others: one-dimensional searches for a threshold.

All functions run inside jit. Rows that are neither known, nor waiting for their answer, nor free to
be asked are not there: they have no place in an order.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal.kernels.ordering import argsort, first_true


def class_orders(logits: Float[Array, "N C"]) -> Int[Array, "C N"]:
    """For each class all rows, those most likely to be of it first, by how far its probability
    lies above or below the largest one: int32 [C, N]. Ties by the lowest row.

    Rows for which the class has the largest probability are ordered by that, the others by
    `p_c - max p`. What is sorted is a number of the same order that keeps its precision where one
    probability is nearly 1: `p_c / (1 - p_c)`, or `-(max p - p_c) / (1 - (max p - p_c))`.

    Args:
      logits: [N, C], `-inf` for classes that the model does not know; computed in float32.

    Source: Zhang, Katz-Samuels, Nowak, ICML 2022, section 4. Twin: `class_orders` in
      tests/reference.py.

    >>> class_orders(jnp.log(jnp.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))).tolist()
    [[0, 2, 1], [1, 2, 0]]
    """
    logits = logits.astype(jnp.float32)
    num_rows, num_classes = logits.shape
    top = jnp.max(logits, axis=1)
    rest = jnp.exp(logits - top[:, None])
    of_top = jnp.argmax(logits, axis=1)[:, None] == jnp.arange(num_classes)[None, :]
    rest = jnp.sum(jnp.where(of_top, 0, rest), axis=1)

    def order(label):
        behind = top - logits[:, label]
        lead = jnp.where(behind == 0, 1 / rest, jnp.expm1(-behind) / (rest + jnp.exp(-behind)))
        # Rows that are not candidates may hold anything.
        return argsort(jnp.where(jnp.isnan(lead), jnp.inf, -lead), num_rows)

    return jax.lax.map(order, jnp.arange(num_classes))


def bisect_or_expand(
    values: Int[Array, " N"], waiting: Bool[Array, " N"], free: Bool[Array, " N"]
) -> Int[Array, ""]:
    """The free place to ask next in one order, where some known value is 1 and some is 0: int32.

    As long as there are free places between known neighbours of different values, it is the middle
    (the lower one of two) of the gap with the fewest rows, the first of several. A row that waits
    for its answer divides its gap, and the middle is that of the widest part, so that rows asked
    together are spread over the gap. Afterwards it is the free place nearest to a gap on either
    side; on the left of it, then the first, of several.

    Args:
      values: int [N], in the order: 1 or 0 where known, -1 elsewhere.
      waiting: bool [N], asked and not yet answered.
      free: bool [N], may be asked.

    Source: Zhang, Katz-Samuels, Nowak, ICML 2022, algorithm 1. Twin: `bisect_or_expand` in
      tests/reference.py.

    >>> values = jnp.array([1, -1, -1, -1, 0])
    >>> int(bisect_or_expand(values, jnp.zeros(5, bool), values < 0))
    2
    """
    known = values >= 0
    rank = _ranks(known | waiting | free)
    end = jnp.int32(2 * len(values))

    def before(mask, numbers):
        return jax.lax.cummax(jnp.where(mask, numbers, -1))

    def after(mask, numbers):
        return jax.lax.cummin(jnp.where(mask, numbers, end), reverse=True)

    # The place and the value of a known neighbour in one number.
    both = 2 * rank + values
    last, next_ = before(known, both), after(known, both)
    gap = (next_ >> 1) - (last >> 1) - 1
    differ = (last >= 0) & (next_ < end) & (((last ^ next_) & 1) == 1)
    here = known | waiting
    begin = before(here, rank)
    part = after(here, rank) - begin - 1
    middle = free & differ & (rank == begin + (part + 1) // 2)
    smallest = middle & (gap == jnp.min(jnp.where(middle, gap, end)))
    first = smallest & (last == last[first_true(smallest)])
    widest = first & (part == jnp.max(jnp.where(first, part, 0)))

    # Gaps by the known row at their right end.
    left_end = jnp.concatenate([jnp.full(1, -1, jnp.int32), last[:-1]])
    cut = known & (left_end >= 0) & ((left_end & 1) != values)
    to_left = after(cut, left_end >> 1) - rank
    right_end = before(cut, rank)
    to_right = jnp.where(right_end >= 0, rank - right_end, end)
    distance = jnp.where(free, jnp.minimum(2 * to_left, 2 * to_right + 1), 4 * end)
    nearest = first_true(distance == jnp.min(distance))
    return jnp.where(jnp.any(middle), first_true(widest), nearest)


def _ranks(there: Bool[Array, " N"]) -> Int[Array, " N"]:
    """How many rows that are there come before each place, int32 [N]; for those that are there."""
    return jnp.cumsum(there, dtype=jnp.int32) - 1


def accuracies(values: Int[Array, " N"]) -> Int[Array, " N+1"]:
    """How many more known rows than not each threshold of one order has right: int32 [N + 1].

    Threshold j says 1 of the first j places and 0 of the others.

    Args:
      values: int [N], in the order: 1 or 0 where known, -1 elsewhere.

    Source: Nuggehalli, Zhang, Jain, Nowak, ICML 2025, section 4.

    >>> accuracies(jnp.array([1, -1, 0])).tolist()
    [0, 2, 2, 0]
    """
    weights = jnp.where(values < 0, 0, 2 * values - 1)
    before = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(weights, dtype=jnp.int32)])
    return 2 * before - before[-1]


def nearest_to_threshold(
    values: Int[Array, " N"], waiting: Bool[Array, " N"], free: Bool[Array, " N"]
) -> Int[Array, ""]:
    """The free place nearest to the most accurate threshold of one order, the lowest of several:
    int32. Before the threshold comes first of two that are equally near.

    Args: as in `bisect_or_expand`.

    Source: Nuggehalli, Zhang, Jain, Nowak, ICML 2025, algorithm 1. Twin: `nearest_to_threshold` in
      tests/reference.py.

    >>> values = jnp.array([1, -1, -1, 0])
    >>> int(nearest_to_threshold(values, jnp.zeros(4, bool), values < 0))
    1
    """
    there = (values >= 0) | waiting | free
    rank = _ranks(there)
    place = jnp.arange(len(values), dtype=jnp.int32)
    threshold = jnp.argmax(accuracies(values)).astype(jnp.int32)
    before = jnp.sum(there & (place < threshold), dtype=jnp.int32)
    turn = jnp.where(place < threshold, 2 * (before - 1 - rank), 2 * (rank - before) + 1)
    last = jnp.iinfo(jnp.int32).max
    return first_true(free & (turn == jnp.min(jnp.where(free, turn, last))))


def uncertain(values: Int[Array, " N"], there: Bool[Array, " N"]) -> Int[Array, "2"]:
    """The ends of the stretch of one order in which the labels may change, as numbers of the rows
    that are there: int32 [2], both included.

    From the last known row of the leading ones that are all 1 (the first row without any) to the
    first of the trailing ones that are all 0 (the last row).

    Args:
      values: int [N], in the order: 1 or 0 where known, -1 elsewhere.
      there: bool [N], known, waiting or free.

    Source: Nuggehalli, Zhang, Jain, Nowak, ICML 2025, algorithm 2.

    >>> uncertain(jnp.array([1, 1, -1, -1, 0]), jnp.ones(5, bool)).tolist()
    [1, 4]
    """
    rank = _ranks(there)
    number = jnp.sum(there, dtype=jnp.int32)
    first_0 = jnp.min(jnp.where(values == 0, rank, number))
    last_1 = jnp.max(jnp.where(values == 1, rank, -1))
    begin = jnp.max(jnp.where((values == 1) & (rank < first_0), rank, 0))
    end = jnp.min(jnp.where((values == 0) & (rank > last_1), rank, number - 1))
    return jnp.stack([begin, end])


def shrink(
    ends: Int[Array, "2"],
    values: Int[Array, " N"],
    there: Bool[Array, " N"],
    rounds: Int[Array, ""],
) -> Int[Array, "2"]:
    """The stretch after some labels, shorter by a factor that leaves about one unknown row after as
    many rounds: int32 [2]. With `u` unknown rows in it, `u ** (1 - 1 / rounds)` stay.

    The end at which the threshold is less accurate moves inwards, row by row; two that are level
    move in equal parts.

    Args:
      ends: as of `uncertain`.
      values, there: as in `uncertain`.
      rounds: int32, how many there are, including that of the labels; at most 1: nothing changes.

    Source: Nuggehalli, Zhang, Jain, Nowak, ICML 2025, algorithm 2. Twin: `shrink` in
      tests/reference.py.

    >>> values = jnp.array([1, -1, -1, -1, -1, 0])
    >>> shrink(jnp.array([0, 5]), values, jnp.ones(6, bool), jnp.int32(2)).tolist()
    [2, 3]
    """
    rank = _ranks(there)
    begin, end = ends
    inside = there & (rank >= begin) & (rank <= end)
    unknown = inside & (values < 0)
    number = jnp.cumsum(unknown, dtype=jnp.int32)
    size = number[-1]
    share = 1 - 1 / jnp.maximum(rounds, 1).astype(jnp.float32)
    # Just below: a whole number must not become the next one by rounding.
    left = jnp.ceil(size.astype(jnp.float32) ** share * (1 - 1e-6)).astype(jnp.int32)
    gone = jnp.where(rounds > 1, size - left, 0)

    # The ends pass a row once the other is as accurate as the best threshold on the way to it.
    accuracy = jnp.where(inside, accuracies(values)[:-1], -len(values) - 1)
    from_begin, from_end = jax.lax.cummax(accuracy), jax.lax.cummax(accuracy, reverse=True)

    def passed(level):
        return tuple(
            jnp.sum(unknown & (way <= level), dtype=jnp.int32) for way in (from_begin, from_end)
        )

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) >> 1
        enough = sum(passed(middle)) >= gone
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    low, high = jnp.int32(-len(values) - 1), jnp.int32(len(values) + 1)
    steps = (2 * len(values) + 3).bit_length()
    level, _ = jax.lax.fori_loop(0, steps, halve, (low, high))
    surely, at_most = passed(level - 1), passed(level)
    rest = gone - sum(surely)
    level_left, level_right = (most - sure for most, sure in zip(at_most, surely, strict=True))
    half = jnp.clip((rest + 1) // 2, rest - level_right, level_left)
    from_left = surely[0] + half
    from_right = gone - from_left

    def rank_of(nth):
        return jnp.sum(jnp.where(unknown & (number == nth), rank, 0), dtype=jnp.int32)

    begin = jnp.where(from_left > 0, rank_of(from_left) + 1, begin)
    end = jnp.where(from_right > 0, rank_of(size - from_right + 1) - 1, end)
    return jnp.stack([begin, end])


def within(ends: Int[Array, "2"], there: Bool[Array, " N"]) -> Bool[Array, " N"]:
    """The places of a stretch: bool [N].

    >>> within(jnp.array([0, 1]), jnp.array([True, False, True, True])).tolist()
    [True, False, True, False]
    """
    rank = _ranks(there)
    return there & (rank >= ends[0]) & (rank <= ends[1])
