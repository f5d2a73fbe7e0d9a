"""The building blocks of the networks: convolutions with either padding, each with its batch norm
and activation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from balal.extras import Extra

with Extra("models"):
    from flax import nnx

Padding = Literal["symmetric", "same"]


def pads(length: int, kernel: int, stride: int, padding: Padding) -> tuple[int, int]:
    """How many zeros go before and after an axis of `length` numbers.

    `symmetric`, PyTorch's: half of the kernel on both sides. `same`, TensorFlow's: as many as give
    `ceil(length / stride)` outputs, the odd one after; with stride 2 and an even length, the two
    paddings see different pixels.

    >>> pads(224, 3, 2, "symmetric"), pads(224, 3, 2, "same")
    ((1, 1), (0, 1))
    """
    if padding == "symmetric":
        return kernel // 2, kernel // 2
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def convolve(
    images: Float[Array, "B h w c"],
    kernel: Float[Array, "k k i o"],
    *,
    stride: int = 1,
    padding: Padding = "symmetric",
) -> Float[Array, "B _ _ o"]:
    """Convolution of images with a kernel of `i` = c input channels, or depthwise if `i` = 1 and o
    = c.

    A kernel of one pixel is a matrix product. On CPUs there are two other forms: a convolution with
    few terms, depthwise or of three colours, is a sum of shifted images, each times one number per
    output channel, many times as fast as XLA's grouped convolution there; one with few output
    pixels is a product of its windows side by side. Products are taken in full float32 (no TF32).

    >>> images, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2))
    >>> convolve(images, kernel, stride=2, padding="same")[0, :, :, 0].tolist()
    [[9.0, 6.0], [6.0, 4.0]]
    """
    size, channels = kernel.shape[0], images.shape[-1]
    if size == 1:
        return jnp.matmul(images[:, ::stride, ::stride], kernel[0, 0], precision="highest")
    around = [pads(length, size, stride, padding) for length in images.shape[1:3]]
    height, width = (
        (length + sum(zeros) - size) // stride + 1
        for length, zeros in zip(images.shape[1:3], around, strict=True)
    )
    groups = channels // kernel.shape[2]

    def whole(images, kernel):
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            (stride, stride),
            around,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
            precision=jax.lax.Precision.HIGHEST,
        )

    def shifted(images):
        """For each row and column of the kernel, the pixels that it is multiplied with."""
        images = jnp.pad(images, [(0, 0), *around, (0, 0)])
        rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
        return [
            images[:, row : row + rows : stride, column : column + columns : stride]
            for row in range(size)
            for column in range(size)
        ]

    def summed(images, kernel):
        kernel = kernel.reshape(size * size, *kernel.shape[2:])
        terms = [
            pixels[..., channel : channel + groups] * kernel[tap, channel][None, None, None]
            for tap, pixels in enumerate(shifted(images))
            for channel in range(kernel.shape[1])
        ]
        return sum(terms[1:], terms[0])

    def multiplied(images, kernel):
        return jnp.matmul(
            jnp.concatenate(shifted(images), axis=-1),
            kernel.reshape(-1, kernel.shape[-1]),
            precision="highest",
        )

    on_cpu = (
        summed
        if size * size * kernel.shape[2] <= 27
        else multiplied
        if groups == 1 and height * width <= 64
        else whole
    )
    return jax.lax.platform_dependent(images, kernel, cpu=on_cpu, default=whole)


@dataclass(frozen=True)
class Style:
    """What a network's layers have in common.

    Attributes:
      padding: of the convolutions.
      epsilon: of the batch norms.
      dtype: that the layers compute in; parameters are float32.
    """

    padding: Padding
    epsilon: float
    dtype: Any


class Unit(nnx.Module):
    """A convolution without bias, its batch norm and its activation. The kernel is 0 until
    parameters replace it."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        depthwise: bool = False,
        activation: Callable | None = None,
        style: Style,
    ):
        shape = (kernel, kernel, 1 if depthwise else inputs, outputs)
        self.kernel = nnx.Param(jnp.zeros(shape))
        self.norm = nnx.BatchNorm(
            outputs, momentum=0.9, epsilon=style.epsilon, dtype=style.dtype, rngs=nnx.Rngs(0)
        )
        self.stride, self.style, self.activation = stride, style, activation

    def __call__(self, images):
        images, kernel = images.astype(self.style.dtype), self.kernel[...].astype(self.style.dtype)
        images = convolve(images, kernel, stride=self.stride, padding=self.style.padding)
        if self.norm.use_running_average:
            images = self._scaled(images)
        else:
            # Flax mixes dtypes in bfloat16.
            with jax.numpy_dtype_promotion("standard"):
                images = self.norm(images)
        return images if self.activation is None else self.activation(images)

    def _scaled(self, images):
        """The norm in evaluation mode, with one multiplication and one addition per number, where
        Flax takes two of each."""
        norm: Any = self.norm
        scale = norm.scale[...] * jax.lax.rsqrt(norm.var[...] + self.style.epsilon)
        bias = norm.bias[...] - norm.mean[...] * scale
        scaled = images.astype(jnp.float32) * scale[None, None, None] + bias[None, None, None]
        return scaled.astype(self.style.dtype)
