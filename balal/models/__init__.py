"""Source models: Flax networks that turn images into features and logits, and the weights that others have trained for them.

    from balal import models

    source = models.SOURCES["efficientnet_lite0"]
    params = models.load(source, models.weights.installed("efficientnet_lite0"))
    images = np.stack([models.prepare(image, source) for image in images])
    features, logits = source.apply(params, images)

`source` has the networks, `resnet` and `mobile` their plans, `layers` what these are made of. Weights are read without PyTorch and without
running anything that a file says (`weights`, on top of `checkpoint`, `unpickling` and `arrays`). Needs the extra `balal[models]`; nothing
here is imported by `import balal`.
"""

from balal.models import weights
from balal.models.mobile import Mobile
from balal.models.preprocessing import prepare
from balal.models.resnet import ResNet
from balal.models.source import SOURCES, Params, Source, fold, initial, load, shapes
