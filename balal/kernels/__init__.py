"""Kernels: arrays in, arrays out; none of them knows a strategy.

uncertainty: how uncertain the source model is of each row.
diversity: predicted source classes take turns.
k_center: rows far from every row picked before.
herding: rows that cover the most of the pool.
radii: how far a label reaches.
switch: which classes are rare so far, and when balancing takes over.
balancing: which class it aims at then, and which row it asks for.
class_means: that row, found without a pass over the features for every pick.
neighbours: the nearest rows of each row.
typicality: how central a row lies among them.
k_means: clusters.
class_orders: a target model's order of the rows for each class, and thresholds in it.
query_information: rows that tell most about some query rows.
gaussian_process: what the labels so far say about every row.
distances, ordering, sampling: what the others are built on.

What users call is a plain function: it has its arguments checked and converted by `balal.check`,
then calls its compiled self, which has the same name with an underscore. It can be jitted and
vmapped; shapes are checked there too, values only where they are known. Functions that say "Runs
inside jit" are parts of these: they take arrays of JAX and trust them.
"""

from balal.kernels import (
    balancing,
    class_means,
    class_orders,
    distances,
    diversity,
    gaussian_process,
    herding,
    k_center,
    k_means,
    neighbours,
    ordering,
    query_information,
    radii,
    sampling,
    switch,
    typicality,
    uncertainty,
)

__all__ = [
    "balancing",
    "class_means",
    "class_orders",
    "distances",
    "diversity",
    "gaussian_process",
    "herding",
    "k_center",
    "k_means",
    "neighbours",
    "ordering",
    "query_information",
    "radii",
    "sampling",
    "switch",
    "typicality",
    "uncertainty",
]
