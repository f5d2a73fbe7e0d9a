"""Herding: the rows that cover the most of the pool, by lazy greedy search.

`greedy` has the function and the search; `ground` is what is to be covered and how much rows would
add to it, as exact sums or by a table of upper bounds.
"""

from balal.kernels.herding.greedy import TIES, Herd, Similarity, herding

__all__ = ["TIES", "Herd", "Similarity", "herding"]
