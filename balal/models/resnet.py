"""Residual networks: ResNet-18 and 34 of basic blocks, ResNet-50 of bottlenecks with the stride in
their 3 x 3 convolution."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from balal.extras import Extra
from balal.models.layers import Style, Unit, pads

with Extra("models"):
    from flax import nnx


@dataclass(frozen=True)
class ResNet:
    """The plan of a residual network.

    Attributes:
      depths: blocks of each stage.
      bottleneck: whether a block narrows to a quarter of its channels in between.

    Source: He, Zhang, Ren, Sun, CVPR 2016; strides as in torchvision.
    """

    depths: tuple[int, ...]
    bottleneck: bool = False

    def module(self, num_classes: int, style: Style) -> nnx.Module:
        return _ResNet(self, num_classes, style)

    def names(self, layout: str) -> dict[tuple, tuple[str, str]]:
        """The names of each unit in a state dict: (convolution, batch norm) by path. torchvision
        and timm use the same names."""
        found: dict[tuple, tuple[str, str]] = {("stem",): ("conv1", "bn1")}
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                path, name = (
                    ("blocks", sum(self.depths[:stage]) + block),
                    f"layer{stage + 1}.{block}",
                )
                found |= {
                    (*path, "units", unit): (f"{name}.conv{unit + 1}", f"{name}.bn{unit + 1}")
                    for unit in range(2 + self.bottleneck)
                }
                if block == 0 and (stage or self.bottleneck):
                    found[(*path, "shortcut")] = f"{name}.downsample.0", f"{name}.downsample.1"
        return found

    def classifier(self, layout: str) -> str:
        return "fc"


class _ResNet(nnx.Module):
    def __init__(self, plan: ResNet, num_classes: int, style: Style):
        self.stem = Unit(3, 64, 7, stride=2, activation=jax.nn.relu, style=style)
        blocks, inputs = [], 64
        for stage, depth in enumerate(plan.depths):
            for block in range(depth):
                width, stride = 64 * 2**stage, 2 if stage and not block else 1
                blocks.append(_Block(inputs, width, stride, plan.bottleneck, style))
                inputs = 4 * width if plan.bottleneck else width
        self.blocks = nnx.List(blocks)
        self.classifier = nnx.Linear(
            inputs,
            num_classes,
            kernel_init=nnx.initializers.zeros,
            precision="highest",
            rngs=nnx.Rngs(0),
        )
        self.style = style

    def __call__(self, images):
        images = self.stem(images)
        around = [pads(length, 3, 2, self.style.padding) for length in images.shape[1:3]]
        lowest = jnp.array(-jnp.inf, images.dtype)
        images = jax.lax.reduce_window(
            images, lowest, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), [(0, 0), *around, (0, 0)]
        )
        for block in self.blocks:
            images = block(images)
        features = jnp.mean(images.astype(jnp.float32), axis=(1, 2))
        return features, self.classifier(features)


class _Block(nnx.Module):
    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool, style: Style):
        outputs = 4 * width if bottleneck else width
        shapes = (
            [(width, 1, 1), (width, 3, stride), (outputs, 1, 1)]
            if bottleneck
            else [(width, 3, stride), (width, 3, 1)]
        )
        units, channels = [], inputs
        for index, (wide, kernel, step) in enumerate(shapes):
            activation = jax.nn.relu if index < len(shapes) - 1 else None
            units.append(
                Unit(channels, wide, kernel, stride=step, activation=activation, style=style)
            )
            channels = wide
        self.units = nnx.List(units)
        reshaped = stride != 1 or inputs != outputs
        self.shortcut = Unit(inputs, outputs, 1, stride=stride, style=style) if reshaped else None

    def __call__(self, images):
        inner = images
        for unit in self.units:
            inner = unit(inner)
        return jax.nn.relu(inner + (images if self.shortcut is None else self.shortcut(images)))
