"""Coverage of the pool: exact greedy k-center, the kernel of core-set selection (Eq. 7)."""

from balal.kernels.k_center.greedy import (
    Centers,
    k_center,
    middle,
    product_error,
    squared_distances,
)

__all__ = ["Centers", "k_center", "middle", "product_error", "squared_distances"]
