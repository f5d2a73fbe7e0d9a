"""Source models: networks trained on other images, as pure functions of their parameters.

from balal.models import sources

source = sources.SOURCES["mobilenet_v2"]
params = sources.load(source, "mobilenet_v2.safetensors")
features, logits = source.apply(params, images)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Real

from balal.extras import Extra
from balal.models import weights as weight_files
from balal.models.layers import Padding, Style
from balal.models.mobilenet import EFFICIENTNET_LITE0, LAYOUTS, MOBILENET_V2, Mobile
from balal.models.resnet import ResNet

with Extra("models"):
    from flax import nnx

Params = Mapping[str, Any]
"""Nested dictionaries of arrays: kernels, scales and biases, running means and variances."""


@dataclass(frozen=True)
class Source:
    """A network and what its images must look like. Equal sources share one compilation.

    Attributes:
      network: its plan.
      image_size: side of its input, in pixels.
      crop: `image_size` divided by the shorter side that an image is resized to before its middle
        is cut out.
      interpolation: of that resizing, which stays in floating-point numbers.
      mean: of each channel, in grey levels, subtracted first.
      std: of each channel, in grey levels, divided by next.
      padding: of the convolutions, as in the training of the weights.
      epsilon: of the batch norms.
      num_classes: `K`.
    """

    network: ResNet | Mobile
    image_size: int = 224
    crop: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    padding: Padding = "symmetric"
    epsilon: float = 1e-5
    num_classes: int = 1000

    def apply(
        self,
        params: Params,
        images: Real[Array | np.ndarray, "B h w 3"],
        *,
        dtype: Any = jnp.float32,
    ) -> tuple[Float[Array, "B D"], Float[Array, "B K"]]:
        """Features [B, D], the mean over the last feature map, and logits [B, K], both float32, in
        evaluation mode. Pure and compiled.

        Args:
          params: from `load` or `initial`, folded or not.
          images: [B, h, w, 3], grey levels from 0 to 255 of any dtype, already resized
            (`preprocessing.prepare`).
          dtype: to compute in; bfloat16 is for accelerators. The mean over the feature map and the
            classifier stay in float32.

        >>> source = Source(ResNet((1,)), num_classes=10)
        >>> params = initial(source, key=jax.random.key(0))
        >>> features, logits = source.apply(params, np.zeros((2, 32, 32, 3)))
        >>> features.shape, logits.shape
        ((2, 64), (2, 10))
        """
        return _apply(self, params, jnp.asarray(images), dtype)

    def normalised(self, images: Real[Array, "B h w 3"]) -> Float[Array, "B h w 3"]:
        """Grey levels normalised for the network: float32, less the means, divided by the standard
        deviations."""
        mean, std = (
            jnp.asarray(values, jnp.float32)[None, None, None, :]
            for values in (self.mean, self.std)
        )
        return (images.astype(jnp.float32) - mean) / std

    def module(self, *, dtype: Any = jnp.float32) -> nnx.Module:
        """The network as a Flax NNX module that takes normalised images, for training; its kernels
        are 0 until parameters replace them."""
        return self.network.module(self.num_classes, Style(self.padding, self.epsilon, dtype))


_LITE = Source(
    Mobile(EFFICIENTNET_LITE0), mean=(127.0,) * 3, std=(128.0,) * 3, padding="same", epsilon=1e-3
)

SOURCES = {
    "resnet18": Source(ResNet((2, 2, 2, 2))),
    "resnet34": Source(ResNet((3, 4, 6, 3))),
    "resnet50": Source(ResNet((3, 4, 6, 3), bottleneck=True)),
    "mobilenet_v2": Source(Mobile(MOBILENET_V2)),
    "tf_mobilenet_v2": Source(
        Mobile(MOBILENET_V2), mean=(127.5,) * 3, std=(127.5,) * 3, padding="same"
    ),
    "efficientnet_lite0": _LITE,
    "efficientnet_lite1": replace(
        _LITE, network=Mobile(EFFICIENTNET_LITE0, depth=1.1), image_size=240, crop=240 / 272
    ),
    "efficientnet_lite2": replace(
        _LITE,
        network=Mobile(EFFICIENTNET_LITE0, width=1.1, depth=1.2),
        image_size=260,
        crop=260 / 292,
    ),
}
"""The source models by name, with the preprocessing of their usual ImageNet weights: torchvision's
for the ResNets and `mobilenet_v2`, TensorFlow's for the others. For other weights,
`dataclasses.replace` what differs."""


@dataclass(frozen=True)
class Pretrained:
    """A source model with the file of its weights: all that extracting features needs.

    Attributes:
      name: recorded with the features that it extracts.
      source: the network.
      weights: the file of its weights.
      entry: which entry of the file holds them, as `load` takes it.
    """

    name: str
    source: Source
    weights: Path
    entry: str | None = None

    def load(self) -> Params:
        """The parameters."""
        return load(self.source, self.weights, entry=self.entry)


def pretrained(
    name: str,
    *,
    weights: Path | str | None = None,
    entry: str | None = None,
    crop: float | None = None,
) -> Pretrained:
    """A source model of `SOURCES` with its weights, from a file or an installed package.

    Args:
      name: a key of `SOURCES`.
      weights: the file; None: the one in the package that an extra of balal installs.
      entry: which entry of the file holds them, as `load` takes it.
      crop: replaces the model's own, above 0 and at most 1; 1 is right for images that the object
        fills.

    Raises: ValueError for an unknown name, or one without a package of weights; FileNotFoundError,
      with the command that installs it, if that package is missing.
    """
    if name not in SOURCES:
        raise ValueError(f"there is no source model {name!r}; there are {', '.join(SOURCES)}")
    if crop is not None and not 0 < crop <= 1:
        raise ValueError(f"crop must be a share of the image, above 0 and at most 1, got {crop:g}")
    source = SOURCES[name] if crop is None else replace(SOURCES[name], crop=crop)
    if weights is None and name not in weight_files.INSTALLABLE:
        raise ValueError(
            f"no installable package has weights for {name}: pass a file of weights, "
            f"weights=PATH, or choose among {', '.join(weight_files.INSTALLABLE)}"
        )
    found = weight_files.installed(name) if weights is None else Path(weights)
    return Pretrained(name, source, found, entry)


def load(source: Source, path: Path | str, *, entry: str | None = None) -> Params:
    """The parameters of a source model from a weights file: a state dict with the names of
    torchvision, timm or efficientnet_pytorch.

    Args:
      source: whose network it must fit.
      path: a `.safetensors`, `.pth` or `.pt` file; read without PyTorch, and nothing in it is
        executed (`balal.models.weights`).
      entry: which entry of a training checkpoint holds the state dict, as `weights.read` takes it.

    Raises: ValueError for a file that is not one of weights, or does not fit: then it lists the
      tensors that are missing, unexpected or of another shape; FileNotFoundError.
    """
    tensors = weight_files.read(path, entry=entry)
    layout = next(
        (layout for layout, name in LAYOUTS.items() if f"{name}.weight" in tensors), "torchvision"
    )
    entries = _state_dict_entries(source, layout)
    expected = {}
    for path_in_tree, leaf in jax.tree.leaves_with_path(shapes(source)):
        name, axes = entries[_keys(path_in_tree)]
        expected[name] = tuple(leaf.shape[axis] for axis in np.argsort(axes))
    tensors = weight_files.match(tensors, expected, path=path)

    def parameter(path_in_tree, _):
        name, axes = entries[_keys(path_in_tree)]
        return jnp.asarray(tensors[name].transpose(axes), jnp.float32)

    return jax.tree.map_with_path(parameter, shapes(source))


def initial(source: Source, *, key: Key[Array, ""]) -> Params:
    """Random parameters of a source model, in the form that `load` returns: for tests, benchmarks
    and training from scratch.

    Kernels are normal with variance 2 divided by the number of inputs of an output (He et al., ICCV
    2015), biases 0, norms the identity.
    """
    return _initial(source, key)


def shapes(source: Source) -> Params:
    """The shape and dtype of every parameter, without allocating any.

    >>> shapes(SOURCES["resnet18"])["classifier"]["kernel"].shape
    (512, 1000)
    """
    return nnx.to_pure_dict(nnx.state(nnx.eval_shape(source.module)))


def fold(source: Source, params: Params) -> Params:
    """Parameters of the same function with the batch norms folded into the kernels: each remaining
    norm only adds a bias.

    Meant for use outside this library: compiled by XLA, it is no faster, as scaling is fused with
    adding the bias.
    """

    def folded(tree):
        if "kernel" not in tree or "norm" not in tree:
            return {
                name: folded(part) if isinstance(part, Mapping) else part
                for name, part in tree.items()
            }
        norm = tree["norm"]
        scale = norm["scale"] / jnp.sqrt(norm["var"] + source.epsilon)
        ones = jnp.ones_like(scale)
        identity = dict(
            scale=ones,
            bias=norm["bias"] - norm["mean"] * scale,
            mean=0 * ones,
            var=(1 - source.epsilon) * ones,
        )
        return dict(tree, kernel=tree["kernel"] * scale[None, None, None, :], norm=identity)

    return folded(params)


@partial(jax.jit, static_argnames="source")
def _initial(source: Source, key) -> Params:
    tree = shapes(source)
    sizes = [
        leaf.size for path, leaf in jax.tree.leaves_with_path(tree) if _keys(path)[-1] == "kernel"
    ]
    # Drawn in one go: a draw for each shape takes minutes to compile.
    normal = iter(jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1]))

    def parameter(path, leaf):
        name = _keys(path)[-1]
        if name == "kernel":
            return next(normal).reshape(leaf.shape) * (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return jnp.ones(leaf.shape) if name in ("scale", "var") else jnp.zeros(leaf.shape)

    return jax.tree.map_with_path(parameter, tree)


def _state_dict_entries(source: Source, layout: str) -> dict[tuple, tuple[str, tuple[int, ...]]]:
    """For every parameter, by its path: its name in a state dict, and which axis there each of its
    own axes is."""
    found = {}
    for path, (convolution, norm) in source.network.names(layout).items():
        found[(*path, "kernel")] = f"{convolution}.weight", (2, 3, 1, 0)
        for ours, theirs in (
            ("scale", "weight"),
            ("bias", "bias"),
            ("mean", "running_mean"),
            ("var", "running_var"),
        ):
            found[(*path, "norm", ours)] = f"{norm}.{theirs}", (0,)
    name = source.network.classifier(layout)
    return found | {
        ("classifier", "kernel"): (f"{name}.weight", (1, 0)),
        ("classifier", "bias"): (f"{name}.bias", (0,)),
    }


def _keys(path) -> tuple:
    return tuple(entry.key for entry in path)


@partial(jax.jit, static_argnames=("source", "dtype"))
def _apply(source: Source, params, images, dtype):
    graph, state = nnx.split(nnx.eval_shape(lambda: source.module(dtype=dtype)))
    nnx.replace_by_pure_dict(state, params)
    model: Any = nnx.merge(graph, state)
    model.eval()

    def whole(images):
        return model(source.normalised(images))

    def one_by_one(images):
        features = jax.lax.map(lambda image: whole(image[None])[0][0], images)
        return features, model.classifier(features)

    # For one image, the activations between two layers of a mobile network fit a CPU's cache, and
    # its kernels, except the classifier's, are small enough to be read again for each image.
    on_cpu = one_by_one if isinstance(source.network, Mobile) else whole
    return jax.lax.platform_dependent(images, cpu=on_cpu, default=whole)
