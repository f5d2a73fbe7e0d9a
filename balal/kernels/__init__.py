"""Kernels: arrays in, arrays out. None of them knows a strategy."""

from balal.kernels import (
    balancing,
    class_means,
    diversity,
    gaussian_process,
    k_center,
    neighbours,
    ordering,
    sampling,
    uncertainty,
)

__all__ = [
    "balancing",
    "class_means",
    "diversity",
    "gaussian_process",
    "k_center",
    "neighbours",
    "ordering",
    "sampling",
    "uncertainty",
]
