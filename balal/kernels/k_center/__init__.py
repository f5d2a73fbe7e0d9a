"""Coverage of the pool: exact greedy k-center, the kernel of core-set selection (Eq. 7).

`greedy` has the function and the plain algorithm, by passes over the features; `products` and
`lazy` find the same picks many times faster; `centres` is the state that all three carry.
"""

from balal.kernels.k_center.greedy import Centers, k_center

__all__ = ["Centers", "k_center"]
