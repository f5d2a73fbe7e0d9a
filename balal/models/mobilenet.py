"""Mobile networks of inverted residuals: MobileNetV2 and EfficientNet-Lite differ only in their
plans."""

from dataclasses import dataclass
from math import ceil

import jax
import jax.numpy as jnp

from balal.extras import Extra
from balal.models.layers import Style, Unit

with Extra("models"):
    from flax import nnx

# For each stage: kernel, stride of its first block, expansion, channels, blocks.
MOBILENET_V2 = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (3, 2, 6, 32, 3),
    (3, 2, 6, 64, 4),
    (3, 1, 6, 96, 3),
    (3, 2, 6, 160, 3),
    (3, 1, 6, 320, 1),
)
EFFICIENTNET_LITE0 = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


@dataclass(frozen=True)
class Block:
    """One inverted residual.

    Attributes:
      stage: the index of its stage.
      index: its index within the stage.
      kernel: size of the depthwise kernel.
      stride: of the depthwise convolution.
      expansion: of the input channels.
      outputs: output channels.
    """

    stage: int
    index: int
    kernel: int
    stride: int
    expansion: int
    outputs: int


@dataclass(frozen=True)
class Mobile:
    """The plan of a mobile network.

    Attributes:
      stages: kernel, stride, expansion, channels and blocks of each.
      width: multiplies the channels of all stages, but not of the stem and the head.
      depth: multiplies the blocks of all stages but the first and the last.

    Width and depth are the compound scaling of EfficientNet-Lite.

    Source: Sandler et al., CVPR 2018; Tan, Le, ICML 2019, without squeeze-and-excitation and with
      ReLU6 (EfficientNet-Lite, 2020).

    >>> len(Mobile(MOBILENET_V2).blocks()), len(Mobile(EFFICIENTNET_LITE0, depth=1.2).blocks())
    (17, 21)
    """

    stages: tuple[tuple[int, int, int, int, int], ...]
    width: float = 1.0
    depth: float = 1.0

    def blocks(self) -> list[Block]:
        found = []
        for stage, (kernel, stride, expansion, channels, repeats) in enumerate(self.stages):
            if 0 < stage < len(self.stages) - 1:
                repeats = ceil(self.depth * repeats)
            wide = _rounded(self.width * channels)
            found += [
                Block(stage, index, kernel, 1 if index else stride, expansion, wide)
                for index in range(repeats)
            ]
        return found

    def module(self, num_classes: int, style: Style) -> nnx.Module:
        return _Mobile(self, num_classes, style)

    def names(self, layout: str) -> dict[tuple, tuple[str, str]]:
        """The names of each unit in a state dict of a layout (a key of `LAYOUTS`): (convolution,
        batch norm) by path."""
        blocks, inner = self.blocks(), _INNER[layout]
        found: dict[tuple, tuple[str, str]] = dict(
            zip([("stem",), ("head",)], _ends(layout, len(blocks)), strict=True)
        )
        for number, block in enumerate(blocks):
            prefix = {
                "torchvision": f"features.{number + 1}.conv.",
                "timm": f"blocks.{block.stage}.{block.index}.",
            }
            prefix = prefix.get(layout, f"_blocks.{number}.")
            parts = (
                ("expand", "depthwise", "project")
                if block.expansion > 1
                else ("depthwise", "project")
            )
            for part, (convolution, norm) in zip(parts, inner[block.expansion > 1], strict=True):
                found[("blocks", number, part)] = prefix + convolution, prefix + norm
        return found

    def classifier(self, layout: str) -> str:
        return LAYOUTS[layout]


# The layouts of state dicts, each with its name for the classifier.
LAYOUTS = {"torchvision": "classifier.1", "timm": "classifier", "efficientnet_pytorch": "_fc"}
# Names within a block, first for one that does not expand, then for one that does.
_INNER = {
    "torchvision": ((("0.0", "0.1"), ("1", "2")), (("0.0", "0.1"), ("1.0", "1.1"), ("2", "3"))),
    "timm": (
        (("conv_dw", "bn1"), ("conv_pw", "bn2")),
        (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
    ),
    "efficientnet_pytorch": (
        (("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")),
        (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")),
    ),
}


def _ends(layout: str, blocks: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """The names of the stem's and the head's unit."""
    last = f"features.{blocks + 1}"
    return {
        "torchvision": (("features.0.0", "features.0.1"), (f"{last}.0", f"{last}.1")),
        "timm": (("conv_stem", "bn1"), ("conv_head", "bn2")),
        "efficientnet_pytorch": (("_conv_stem", "_bn0"), ("_conv_head", "_bn1")),
    }[layout]


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth too small."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


class _Mobile(nnx.Module):
    def __init__(self, plan: Mobile, num_classes: int, style: Style):
        self.stem = Unit(3, 32, 3, stride=2, activation=jax.nn.relu6, style=style)
        blocks, inputs = [], 32
        for block in plan.blocks():
            blocks.append(_InvertedResidual(inputs, block, style))
            inputs = block.outputs
        self.blocks = nnx.List(blocks)
        self.head = Unit(inputs, 1280, 1, activation=jax.nn.relu6, style=style)
        self.classifier = nnx.Linear(
            1280,
            num_classes,
            kernel_init=nnx.initializers.zeros,
            precision="highest",
            rngs=nnx.Rngs(0),
        )

    def __call__(self, images):
        images = self.stem(images)
        for block in self.blocks:
            images = block(images)
        features = jnp.mean(self.head(images).astype(jnp.float32), axis=(1, 2))
        return features, self.classifier(features)


class _InvertedResidual(nnx.Module):
    def __init__(self, inputs: int, block: Block, style: Style):
        wide = inputs * block.expansion
        self.expand = (
            Unit(inputs, wide, 1, activation=jax.nn.relu6, style=style)
            if block.expansion > 1
            else None
        )
        self.depthwise = Unit(
            wide,
            wide,
            block.kernel,
            stride=block.stride,
            depthwise=True,
            activation=jax.nn.relu6,
            style=style,
        )
        self.project = Unit(wide, block.outputs, 1, style=style)
        self.residual = block.stride == 1 and inputs == block.outputs

    def __call__(self, images):
        inner = images if self.expand is None else self.expand(images)
        inner = self.project(self.depthwise(inner))
        return images + inner if self.residual else inner
