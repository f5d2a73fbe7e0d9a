"""Source models: Flax networks with one interface, and their weights. Needs the extra `models`.

    from balal import models

    source = models.SOURCES["efficientnet_lite0"]
    params = models.load(source, models.weights.installed("efficientnet_lite0"))
    features, logits = source.apply(params, images)

Nothing here is imported by `import balal`.
"""

from balal.models.mobile import Mobile
from balal.models.preprocessing import prepare
from balal.models.resnet import ResNet
from balal.models.source import SOURCES, Params, Source, fold, initial, load, shapes
