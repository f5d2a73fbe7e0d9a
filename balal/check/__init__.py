"""The input doctor: checks on the host, one clear ValueError each, with the first offending rows
and how many there are.

conversion: arrays of other libraries become NumPy's or JAX's, here and nowhere else.
pools: features, logits and probabilities, and the pool that holds them.
bookkeeping: what the loop is asked and told, and the records that it keeps.
faults: the first offending rows, in words.

Nothing is repaired. Shapes and dtypes are always checked; values only if they are known, which
they are not under jit and vmap. The loop's entry points, every experiment and the kernels that
users call go through these functions; what is compiled does not.
"""

from balal.check.bookkeeping import (
    among,
    answers,
    budget,
    candidates_left,
    capacity,
    indices,
    key,
    labelled,
    labels,
    query_size,
    record,
    row_map,
    strategy,
)
from balal.check.conversion import array, floats, integers, mask, option, rows, whole_number
from balal.check.pools import (
    arrays_of,
    asked_features,
    feature_table,
    features,
    finite,
    known,
    logits,
    pool,
    positive,
    probs,
    rows_in,
    scored,
    share,
    source_shape,
    weights,
)

__all__ = [
    "among",
    "answers",
    "array",
    "arrays_of",
    "asked_features",
    "budget",
    "candidates_left",
    "capacity",
    "feature_table",
    "features",
    "finite",
    "floats",
    "indices",
    "integers",
    "key",
    "known",
    "labelled",
    "labels",
    "logits",
    "mask",
    "option",
    "pool",
    "positive",
    "probs",
    "query_size",
    "record",
    "row_map",
    "rows",
    "rows_in",
    "scored",
    "share",
    "source_shape",
    "strategy",
    "weights",
    "whole_number",
]
