"""Networks in plain float64 NumPy, written from the papers and torchvision's names, for state dicts
of such names."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def convolution(images, kernel, *, stride, pads, depthwise=False):
    """[B, c, h, w] with a kernel [o, c, k, k], or [c, 1, k, k] depthwise; pads: zeros before and
    after both axes."""
    images = np.pad(images, [(0, 0), (0, 0), pads, pads])
    windows = sliding_window_view(images, kernel.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    if depthwise:
        return np.einsum("bchwij,cij->bchw", windows, kernel[:, 0])
    return np.moveaxis(np.tensordot(windows, kernel, ([1, 4, 5], [1, 2, 3])), 3, 1)


def norm(images, tensors, name, epsilon):
    scale, bias, mean, var = (
        tensors[f"{name}.{part}"][:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (images - mean) / np.sqrt(var + epsilon) * scale + bias


def pooled(images, size, stride, pads):
    images = np.pad(images, [(0, 0), (0, 0), pads, pads], constant_values=-np.inf)
    return sliding_window_view(images, (size, size), axis=(2, 3))[:, :, ::stride, ::stride].max(
        axis=(4, 5)
    )


def resnet(tensors, images, depths, *, bottleneck):
    """Features and logits of normalised images [B, 3, h, w], padded symmetrically."""

    def layer(images, name, norm_name, stride=1):
        kernel = tensors[f"{name}.weight"]
        half = kernel.shape[2] // 2
        return norm(
            convolution(images, kernel, stride=stride, pads=(half, half)), tensors, norm_name, 1e-5
        )

    images = np.maximum(layer(images, "conv1", "bn1", 2), 0)
    images = pooled(images, 3, 2, (1, 1))
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            strides = [1, stride, 1] if bottleneck else [stride, 1]
            inner = images
            for place, step in enumerate(strides, start=1):
                inner = layer(inner, f"{name}.conv{place}", f"{name}.bn{place}", step)
                if place < len(strides):
                    inner = np.maximum(inner, 0)
            if f"{name}.downsample.0.weight" in tensors:
                images = layer(images, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            images = np.maximum(inner + images, 0)
    features = images.mean(axis=(2, 3))
    return features, features @ tensors["fc.weight"].T + tensors["fc.bias"]


def mobile(tensors, images, strides, *, same, epsilon):
    """Features and logits of normalised images; names of torchvision's MobileNetV2. strides: of
    every block."""

    def layer(images, name, norm_name, stride=1):
        kernel = tensors[f"{name}.weight"]
        size, length = kernel.shape[2], images.shape[2]
        half = size // 2
        pads = (half, half)
        if (
            same and stride == 2
        ):  # square images: as many zeros as the last window lacks, the odd one behind
            lacking = max(2 * ((length + 1) // 2 - 1) + size - length, 0)
            pads = (lacking // 2, lacking - lacking // 2)
        depthwise = kernel.shape[1] == 1 and size > 1
        return norm(
            convolution(images, kernel, stride=stride, pads=pads, depthwise=depthwise),
            tensors,
            norm_name,
            epsilon,
        )

    def clipped(images):
        return np.clip(images, 0, 6)

    images = clipped(layer(images, "features.0.0", "features.0.1", 2))
    for number, stride in enumerate(strides, start=1):
        name, inner = f"features.{number}.conv", images
        if f"{name}.3.weight" in tensors:
            inner = clipped(layer(inner, f"{name}.0.0", f"{name}.0.1"))
            inner = clipped(layer(inner, f"{name}.1.0", f"{name}.1.1", stride))
            inner = layer(inner, f"{name}.2", f"{name}.3")
        else:
            inner = clipped(layer(inner, f"{name}.0.0", f"{name}.0.1", stride))
            inner = layer(inner, f"{name}.1", f"{name}.2")
        images = images + inner if inner.shape == images.shape else inner
    last = f"features.{len(strides) + 1}"
    features = clipped(layer(images, f"{last}.0", f"{last}.1")).mean(axis=(2, 3))
    return features, features @ tensors["classifier.1.weight"].T + tensors["classifier.1.bias"]
