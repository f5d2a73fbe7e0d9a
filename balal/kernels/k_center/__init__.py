"""Coverage of the pool: exact greedy k-center, the kernel of core-set selection (Eq. 7)."""

from balal.kernels.k_center.greedy import Centers as Centers
from balal.kernels.k_center.greedy import k_center as k_center
from balal.kernels.k_center.greedy import middle as middle
from balal.kernels.k_center.greedy import product_error as product_error
from balal.kernels.k_center.greedy import squared_distances as squared_distances
