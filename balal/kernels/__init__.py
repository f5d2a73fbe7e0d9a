"""Kernels: arrays in, arrays out. None of them knows a strategy."""

from balal.kernels import (
    balancing,
    class_means,
    distances,
    diversity,
    gaussian_process,
    k_center,
    k_means,
    neighbours,
    ordering,
    sampling,
    typicality,
    uncertainty,
)
