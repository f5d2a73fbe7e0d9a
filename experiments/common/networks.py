"""A source model together with the images behind its features: fine-tuning needs both."""

from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from balal import data
from balal.heads import finetune
from balal.models import preprocessing, sources
from experiments.common import workers

# How many images are prepared and predicted at a time.
_TOGETHER = 64


@dataclass(frozen=True)
class Network:
    """A network and the images to train and test it on.

    Attributes:
      model: the architecture, the size of images that it sees, and the file with its parameters.
      pool: the images of the pool, in the rows of a `Dataset`.
      tests: the images of its test set.
      recipe: how the network is fine-tuned.
      folder: where an unfinished training is stored, so that a killed run resumes it.
    """

    model: sources.Pretrained
    pool: data.Images
    tests: data.Images
    recipe: finetune.Recipe = field(default_factory=finetune.Recipe)
    folder: Path | None = None

    def fit(
        self, rows: np.ndarray, labels: np.ndarray, *, num_classes: int, seed: int, **rules: Any
    ) -> finetune.Head:
        """The network fine-tuned on some images of the pool. rules: `weights` or `adjustment` of
        `finetune.fit`."""
        images = np.concatenate(
            [_grey_levels(batch.images) for batch in self._prepared(self.pool, rows)]
        )
        checkpoint = None
        if self.folder is not None:
            # The folder is for one kind of head, so that rows are enough to tell trainings apart.
            checkpoint = self.folder / f"training-{workers.name(rows)}.npz"
        with tqdm(
            total=self.recipe.epochs,
            unit="epoch",
            desc=f"fine-tuning on {len(rows)} images",
            leave=False,
            disable=None,
        ) as progress:

            def tell(epochs: int, loss: float) -> None:
                progress.update(epochs - progress.n)
                progress.set_postfix(loss=f"{loss:.3f}")

            options = dict(
                num_classes=num_classes,
                key=jax.random.key(seed),
                recipe=self.recipe,
                checkpoint=checkpoint,
                progress=tell,
            )
            head = finetune.fit(self.model.source, self._params, images, labels, **options, **rules)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
        return head

    def predict(self, head: finetune.Head, rows: np.ndarray | None = None) -> np.ndarray:
        """The classes of some images of the pool, or of all test images."""
        images, chosen = (
            (self.tests, np.arange(len(self.tests))) if rows is None else (self.pool, rows)
        )
        parts = [
            finetune.predict(head, _grey_levels(batch.images), batch=_TOGETHER)
            for batch in self._prepared(images, chosen)
        ]
        return np.concatenate(parts)

    @cached_property
    def _params(self) -> sources.Params:
        return self.model.load()

    def _prepared(self, images: data.Images, rows: np.ndarray):
        return data.batches(
            images,
            _TOGETHER,
            rows=rows,
            prepare=partial(preprocessing.prepare, source=self.model.source),
        )


def _grey_levels(images: Any) -> np.ndarray:
    """Whole numbers, a quarter of the memory: training sees images shifted anyway."""
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)
