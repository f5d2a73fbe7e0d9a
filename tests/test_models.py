"""Source models against plain NumPy networks, the layouts of their weights, and what the images go
through before them."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_networks as reference
from PIL import Image
from small_network import save, state_dict

from balal.models import preprocessing, sources, weights
from balal.models.layers import convolve, pads
from balal.models.mobilenet import EFFICIENTNET_LITE0, LAYOUTS, MOBILENET_V2, Mobile
from balal.models.resnet import ResNet
from balal.models.sources import SOURCES, Source

PAPER = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def parameters(source: Source, tensors: dict[str, np.ndarray], tmp_path) -> sources.Params:
    """What `load` makes of a state dict."""
    save(tensors, tmp_path / "weights.safetensors")
    return sources.load(source, tmp_path / "weights.safetensors")


def assert_close(found, expected, tolerance: float = 2e-5):
    for ours, right in zip(found, expected, strict=True):
        assert ours.shape == right.shape
        assert np.abs(np.asarray(ours) - right).max() <= tolerance * np.abs(right).max()


RESNETS = {
    "one basic block": (ResNet((1,)), 32),
    "a strided basic block with its shortcut": (ResNet((1, 1)), 33),
    "one bottleneck": (ResNet((1,), bottleneck=True), 32),
    "a strided bottleneck": (ResNet((1, 2), bottleneck=True), 35),
    "resnet18": (SOURCES["resnet18"].network, 40),
    "resnet34": (SOURCES["resnet34"].network, 32),
    "resnet50": (SOURCES["resnet50"].network, 32),
}


@pytest.mark.parametrize(
    ("plan", "size"),
    [
        pytest.param(*plan, id=name, marks=[pytest.mark.slow] * name.startswith("resnet"))
        for name, plan in RESNETS.items()
    ],
)
def test_residual_networks_are_those_of_plain_numpy(plan, size, tmp_path):
    source = Source(plan, num_classes=10)
    tensors = state_dict(source)
    images = np.random.default_rng(1).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    mean, std = (255 * np.array(values) for values in PAPER)
    normalised = np.moveaxis((images.astype(np.float64) - mean) / std, 3, 1)
    exact = {name: np.float64(values) for name, values in tensors.items()}
    expected = reference.resnet(exact, normalised, plan.depths, bottleneck=plan.bottleneck)
    params = parameters(source, tensors, tmp_path)
    assert_close(source.apply(params, images), expected)
    if size == 33:
        assert_close(source.apply(sources.fold(source, params), images), expected)


MOBILES = {
    "MobileNetV2": (MOBILENET_V2, "same", 32),
    "symmetric": (MOBILENET_V2[:3], "symmetric", 32),
    "symmetric, odd size": (MOBILENET_V2[:3], "symmetric", 45),
    "same, odd size": (MOBILENET_V2[:3], "same", 45),
    "EfficientNet-Lite0": (EFFICIENTNET_LITE0, "same", 46),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stages", "padding", "size"),
    [
        pytest.param(*plan, id=name, marks=[pytest.mark.nightly] * name.startswith("Efficient"))
        for name, plan in MOBILES.items()
    ],
)
def test_mobile_networks_are_those_of_plain_numpy(stages, padding, size, tmp_path):
    source = Source(
        Mobile(stages),
        padding=padding,
        epsilon=1e-3,
        mean=(127.0,) * 3,
        std=(128.0,) * 3,
        num_classes=10,
    )
    tensors = state_dict(source)
    images = np.random.default_rng(1).integers(0, 256, (2, size, size, 3), np.uint8)
    normalised = np.moveaxis((images.astype(np.float64) - 127) / 128, 3, 1)
    strides = [block.stride for block in source.network.blocks()]
    expected = reference.mobile(
        {name: np.float64(values) for name, values in tensors.items()},
        normalised,
        strides,
        same=padding == "same",
        epsilon=1e-3,
    )
    params = parameters(source, tensors, tmp_path)
    assert_close(source.apply(params, images), expected)
    if stages is EFFICIENTNET_LITE0:
        assert_close(source.apply(sources.fold(source, params), images), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_network_is_read_from_every_layout(layout, tmp_path):
    source = Source(Mobile(EFFICIENTNET_LITE0[:2], depth=1.1), num_classes=7)
    tensors = state_dict(source, layout)
    params = parameters(source, tensors, tmp_path)
    other = parameters(
        source, dict(zip(state_dict(source), tensors.values(), strict=True)), tmp_path
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, params, other))


def test_names_and_shapes_are_those_that_timm_gives():
    tensors = state_dict(SOURCES["efficientnet_lite0"], "timm")
    genuine = {
        "conv_stem.weight": (32, 3, 3, 3),
        "bn1.running_var": (32,),
        "blocks.0.0.conv_dw.weight": (32, 1, 3, 3),
        "blocks.0.0.conv_pw.weight": (16, 32, 1, 1),
        "blocks.0.0.bn2.bias": (16,),
        "blocks.2.1.conv_pw.weight": (240, 40, 1, 1),
        "blocks.2.1.conv_dw.weight": (240, 1, 5, 5),
        "blocks.2.1.conv_pwl.weight": (40, 240, 1, 1),
        "blocks.6.0.bn3.weight": (320,),
        "conv_head.weight": (1280, 320, 1, 1),
        "bn2.running_mean": (1280,),
        "classifier.weight": (1000, 1280),
    }
    assert genuine.items() <= {name: values.shape for name, values in tensors.items()}.items()


def test_larger_lites_have_the_channels_and_blocks_that_were_published():
    plan = SOURCES["efficientnet_lite2"].network
    channels = [block.outputs for block in plan.blocks()]
    assert channels == [16] + [24] * 3 + [48] * 3 + [88] * 4 + [120] * 4 + [208] * 5 + [352]
    assert len(SOURCES["efficientnet_lite1"].network.blocks()) == 21


def test_a_file_of_another_network_is_refused_with_all_that_is_wrong(tmp_path):
    source = Source(ResNet((1,)), num_classes=10)
    tensors = state_dict(source)
    tensors["fc.weight"] = tensors["fc.weight"][:9]
    tensors["more.weight"] = tensors.pop("conv1.weight")
    with pytest.raises(ValueError, match=r"conv1\.weight") as error:
        parameters(source, tensors, tmp_path)
    assert "fc.weight" in str(error.value)
    assert "more.weight" in str(error.value)


@pytest.mark.parametrize(
    ("size", "kernel", "stride"),
    [(6, 3, 2), (7, 3, 2), (8, 5, 2), (9, 5, 1), (5, 3, 1), (19, 5, 2)],
)
@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 3), (3, 4)], ids=["depthwise", "whole"])
def test_convolutions_are_those_of_plain_numpy(size, kernel, stride, padding, inputs, outputs):
    rng = np.random.default_rng(0)
    images, weights = (
        rng.normal(size=(2, size, size, 3)),
        rng.normal(size=(kernel, kernel, inputs, outputs)),
    )
    around = pads(size, kernel, stride, padding)
    expected = reference.convolution(
        np.moveaxis(images, 3, 1),
        weights.transpose(3, 2, 0, 1),
        stride=stride,
        pads=around,
        depthwise=inputs == 1,
    )
    convolved = jax.jit(partial(convolve, stride=stride, padding=padding))
    found = convolved(jnp.float32(images), jnp.float32(weights))
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, 3), atol=1e-5)


def test_an_image_has_the_same_features_alone_and_in_a_batch_and_as_integers_or_floats(tmp_path):
    source = Source(Mobile(MOBILENET_V2[:2]), num_classes=10)
    params = sources.initial(source, key=jax.random.key(0))
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    together, _ = source.apply(params, images)
    alone = jnp.concatenate(
        [source.apply(params, image[None].astype(np.float32))[0] for image in images]
    )
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_bfloat16_is_computed_in_and_float32_comes_out():
    source = Source(ResNet((1,)), num_classes=10)
    params = sources.initial(source, key=jax.random.key(0))
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    exact, _ = source.apply(params, images)
    half, logits = source.apply(params, images, dtype=jnp.bfloat16)
    assert (half.dtype, logits.dtype) == (jnp.float32, jnp.float32)
    assert 0 < np.abs(half - exact).max() < 0.05 * np.abs(exact).max()


def test_equal_sources_share_one_compilation():
    source = Source(Mobile(MOBILENET_V2[:1]), num_classes=3)
    params = sources.initial(source, key=jax.random.key(0))
    images = jnp.zeros((1, 32, 32, 3))
    source.apply(params, images)
    before = sources._apply._cache_size()
    replace(source).apply(sources.initial(source, key=jax.random.key(1)), images)
    assert sources._apply._cache_size() == before


def whole(image: np.ndarray, source: Source) -> np.ndarray:
    """What `prepare` gives, from the whole picture at the size that its middle has."""
    height, width = image.shape[:2]
    shorter = round(source.image_size / source.crop)
    size = (
        max(round(width * shorter / min(height, width)), shorter),
        max(round(height * shorter / min(height, width)), shorter),
    )
    method = (
        Image.Resampling.BICUBIC if source.interpolation == "bicubic" else Image.Resampling.BILINEAR
    )
    channels = [
        np.asarray(Image.fromarray(image[:, :, channel].astype(np.float32)).resize(size, method))
        for channel in range(3)
    ]
    top, left = (size[1] - source.image_size) // 2, (size[0] - source.image_size) // 2
    return np.stack(channels, axis=2)[
        top : top + source.image_size, left : left + source.image_size
    ]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "crop"), [(32, 0.875), (33, 0.875), (32, 1.0)])
def test_the_middle_is_that_of_the_whole_resized_picture(size, crop, interpolation):
    source = replace(SOURCES["resnet18"], image_size=size, crop=crop, interpolation=interpolation)
    for shape in ((50, 41), (41, 50), (20, 20), (100, 301), (640, 480), (7, 50)):
        image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        np.testing.assert_array_equal(preprocessing.prepare(image, source), whole(image, source))
    for shape in ((1, 301), (301, 1), (7, 500), (100, 2111)):
        image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        np.testing.assert_allclose(
            preprocessing.prepare(image, source), whole(image, source), atol=0.01
        )


@pytest.mark.parametrize("shape", [(1, 6000), (6000, 1), (1, 1_000_000)])
def test_a_line_of_pixels_is_not_resized_to_a_picture_that_takes_all_memory(shape, monkeypatch):
    resize = Image.Image.resize

    def bounded(image, size, *options):
        assert size[0] * size[1] < 1_000_000
        return resize(image, size, *options)

    monkeypatch.setattr(Image.Image, "resize", bounded)
    image = np.broadcast_to(np.uint8(7), (*shape, 3))
    np.testing.assert_allclose(
        preprocessing.prepare(image, SOURCES["resnet18"]), np.full((224, 224, 3), 7), rtol=1e-6
    )


@pytest.mark.slow
@pytest.mark.data
def test_photographs_are_recognised_as_often_as_recorded(shared):
    source = SOURCES["tf_mobilenet_v2"]
    params = sources.load(source, shared / "data" / "mobilenet_v2_imagenet1k.safetensors")
    images, labels = photographs(shared, source)
    assert accuracies(source, params, images, labels) == (84, 99)


@pytest.mark.data
def test_photographs_are_recognised_by_published_weights(shared):
    source = SOURCES["efficientnet_lite0"]
    params = sources.load(source, installed("efficientnet_lite0"))
    assert accuracies(source, params, *photographs(shared, source)) == (90, 97)


@pytest.mark.slow
@pytest.mark.data
def test_features_are_those_stored(shared):
    with np.load(shared / "data" / "cifar100_pool_images.npz") as file:
        images = file["images"][:8]
    with np.load(shared / "data" / "cifar100_mobilenet_v2_first256.npz") as file:
        stored = file["features"][:8].astype(np.float32)
    source = replace(SOURCES["tf_mobilenet_v2"], crop=1.0)
    params = sources.load(source, shared / "data" / "mobilenet_v2_imagenet1k.safetensors")
    features, _ = source.apply(
        params, np.stack([preprocessing.prepare(image, source) for image in images])
    )
    np.testing.assert_allclose(features, stored, atol=0.003)


@pytest.mark.data
def test_published_weights_give_the_features_stored_up_to_half_precision(shared):
    path = installed("efficientnet_lite0")
    with np.load(shared / "data" / "cifar100_pool_images.npz") as file:
        images = file["images"][:8]
    with np.load(shared / "data" / "cifar100_efficientnet_lite0_features.npz") as file:
        stored = file["pool_features"][:8]
    source = replace(SOURCES["efficientnet_lite0"], crop=1.0)
    features, _ = source.apply(
        sources.load(source, path),
        np.stack([preprocessing.prepare(image, source) for image in images]),
    )
    np.testing.assert_allclose(features, stored.astype(np.float32), rtol=1e-3, atol=1e-4)


def installed(name: str):
    try:
        return weights.installed(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def photographs(shared, source: Source):
    folder = shared / "data" / "imagenet_sample"
    lines = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    images = [
        preprocessing.prepare(np.asarray(Image.open(folder / line[0]).convert("RGB")), source)
        for line in lines
    ]
    return np.stack(images), np.array([int(line[2]) for line in lines])


def accuracies(source: Source, params: sources.Params, images, labels) -> tuple[int, int]:
    """How many of the photographs have their class first, and among the first five."""
    _, logits = source.apply(params, images)
    best = np.argsort(-np.asarray(logits), axis=1)[:, :5]
    return int(np.sum(best[:, 0] == labels)), int(np.sum(best == labels[:, None]))
