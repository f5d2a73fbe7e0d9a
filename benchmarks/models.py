"""How many images a second do the source models see, beside PyTorch?

    python -m benchmarks.models                             some minutes on one core
    python -m benchmarks.models --networks=resnet50 --batches=8
    python -m benchmarks.models --quick

Random weights, evaluation mode, every image at the network's own size. PyTorch computes the same
network channels-last, its batch norms folded into the convolutions, and has to give the same
logits. Times are medians of repeats in one process, so read the ratios.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from balal.models import layers, mobilenet, sources
from benchmarks import common

FLAGS = flags.FLAGS
flags.DEFINE_bool("quick", False, "One small batch of one network.")
flags.DEFINE_list(
    "networks",
    ["mobilenet_v2", "efficientnet_lite0", "resnet18", "resnet50"],
    "Source models to time.",
)
flags.DEFINE_list("batches", ["1", "8"], "Batch sizes.")
flags.DEFINE_bool("bfloat16", False, "Also compute in bfloat16.")


def torch_network(source: sources.Source, params: dict[str, Any]) -> Any:
    """The same function of images [B, h, w, 3] in PyTorch: logits [B, K]."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(common.CORES)
    params = jax.tree.map(
        lambda values: torch.from_numpy(np.array(values)), sources.fold(source, params)
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (source.mean, source.std))

    def weights(unit):
        if "ready" not in unit:
            kernel = (
                unit["kernel"].permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
            )
            unit["ready"] = kernel, unit["norm"]["bias"]
        return unit["ready"]

    def convolve(images, unit, *, stride=1, depthwise=False):
        kernel, bias = weights(unit)
        size, groups = kernel.shape[-1], images.shape[1] if depthwise else 1
        pads = [layers.pads(length, size, stride, source.padding) for length in images.shape[2:]]
        if all(before == after for before, after in pads):
            return functional.conv2d(
                images, kernel, bias, stride, (pads[0][0], pads[1][0]), groups=groups
            )
        return functional.conv2d(
            functional.pad(images, (*pads[1], *pads[0])), kernel, bias, stride, groups=groups
        )

    def inverted(images):
        images = functional.relu6(convolve(images, params["stem"], stride=2), inplace=True)
        for number, block in enumerate(source.network.blocks()):
            units, inner = params["blocks"][number], images
            if "expand" in units:
                inner = functional.relu6(convolve(inner, units["expand"]), inplace=True)
            inner = functional.relu6(
                convolve(inner, units["depthwise"], stride=block.stride, depthwise=True),
                inplace=True,
            )
            inner = convolve(inner, units["project"])
            images = images + inner if inner.shape == images.shape else inner
        return functional.relu6(convolve(images, params["head"]), inplace=True)

    def residual(images):
        images = functional.relu(convolve(images, params["stem"], stride=2), inplace=True)
        images = functional.max_pool2d(images, 3, 2, 1)
        starts = set(np.cumsum(source.network.depths)[:-1].tolist())
        strided = 1 if source.network.bottleneck else 0
        for number, block in params["blocks"].items():
            stride, inner = 2 if number in starts else 1, images
            for index, unit in block["units"].items():
                inner = convolve(inner, unit, stride=stride if index == strided else 1)
                if index + 1 < len(block["units"]):
                    inner = functional.relu(inner, inplace=True)
            shortcut = (
                convolve(images, block["shortcut"], stride=stride)
                if block.get("shortcut")
                else images
            )
            images = functional.relu(inner + shortcut, inplace=True)
        return images

    def run(images):
        with torch.inference_mode():
            images = (
                torch.from_numpy(images)
                .permute(0, 3, 1, 2)
                .contiguous(memory_format=torch.channels_last)
            )
            maps = (inverted if isinstance(source.network, mobilenet.Mobile) else residual)(
                (images - mean) / std
            )
            return functional.linear(
                maps.mean((2, 3)), params["classifier"]["kernel"].T, params["classifier"]["bias"]
            ).numpy()

    return run


def measure(name: str, batch: int) -> dict[str, Any]:
    """One network on one batch size: a table of images a second."""
    source = sources.SOURCES[name]
    params = sources.initial(source, key=jax.random.key(0))
    images = (
        np.random.default_rng(0)
        .uniform(0, 255, (batch, source.image_size, source.image_size, 3))
        .astype(np.float32)
    )
    on_device, rows = jnp.asarray(images), []
    programs = {"balal, float32": jnp.float32} | (
        {"balal, bfloat16": jnp.bfloat16} if FLAGS.bfloat16 else {}
    )
    for label, dtype in programs.items():
        see = partial(_finished, source, params, on_device, dtype)
        first, _ = common.timed(see)
        seconds, logits = common.timed(see, FLAGS.repeats)
        rows.append([label, seconds, first - seconds, np.asarray(logits)])
    expected = rows[0][3]
    try:
        run = torch_network(source, params)
        run(images)
        seconds, logits = common.timed(lambda: run(images), FLAGS.repeats)
        rows.append(["PyTorch, channels-last", seconds, None, logits])
    except ImportError:
        print("\nPyTorch was left out: torch is not installed")
    scale = np.abs(expected).max()
    return common.table(
        f"{name}, {source.image_size} px, batch {batch}",
        [
            {
                "program": label,
                "ms an image": 1000 * seconds / batch,
                "images/s": batch / seconds,
                "times ours": seconds / rows[0][1],
                "compiling": compiling,
                "largest difference of logits": f"{np.abs(logits - expected).max() / scale:.1e} "
                f"of the largest",
            }
            for label, seconds, compiling, logits in rows
        ],
    )


def _finished(
    source: sources.Source, params: sources.Params, images: jax.Array, dtype: Any
) -> jax.Array:
    return jax.block_until_ready(source.apply(params, images, dtype=dtype)[1])


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"this program takes flags only, got {argv[1:]}")
    if unknown := set(FLAGS.networks) - set(sources.SOURCES):
        raise app.UsageError(
            f"--networks knows {', '.join(sources.SOURCES)}, got {', '.join(sorted(unknown))}"
        )
    pairs = (
        [("mobilenet_v2", 1)]
        if FLAGS.quick
        else [(name, int(batch)) for name in FLAGS.networks for batch in FLAGS.batches]
    )
    common.finish("models", [measure(*pair) for pair in pairs])


if __name__ == "__main__":
    app.run(main)
