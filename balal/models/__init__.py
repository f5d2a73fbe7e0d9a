"""Source models: Flax networks that turn images into features and logits, and the weights that
others have trained for them.

    from balal.models import preprocessing, sources, weights

    source = sources.SOURCES["efficientnet_lite0"]
    params = sources.load(source, weights.installed("efficientnet_lite0"))
    images = np.stack([preprocessing.prepare(image, source) for image in images])
    features, logits = source.apply(params, images)

`resnet` and `mobile` have the plans of the networks, `layers` what these are made of. Weights are
read without PyTorch and without running anything that a file says (`weights`, on top of
`checkpoint`, `unpickling` and `arrays`). The networks need the extra `balal[models]`, the reading
of weights does not. Nothing here is imported by `import balal`.
"""

from typing import TYPE_CHECKING

from balal.models import weights

if TYPE_CHECKING:
    # They need the extra `balal[models]`, and are imported where they are asked for.
    from balal.models import preprocessing, sources

__all__ = ["preprocessing", "sources", "weights"]
