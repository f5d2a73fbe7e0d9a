"""Source models: Flax networks that turn images into features and logits, and pretrained weights
for them.

    from balal.models import preprocessing, sources, weights

    source = sources.SOURCES["efficientnet_lite0"]
    params = sources.load(source, weights.installed("efficientnet_lite0"))
    images = np.stack([preprocessing.prepare(image, source) for image in images])
    features, logits = source.apply(params, images)

`resnet` and `mobilenet` have the plans of the networks, `layers` their building blocks. Weights are
read without PyTorch and without running any code in a file (`weights`, on top of `checkpoints`).
The networks need the extra `balal[models]`, reading weights does not. Nothing here is imported by
`import balal`.
"""

from typing import TYPE_CHECKING

from balal.models import weights

if TYPE_CHECKING:
    # They need the extra `balal[models]`, and are imported only on request.
    from balal.models import preprocessing, sources

__all__ = ["preprocessing", "sources", "weights"]
