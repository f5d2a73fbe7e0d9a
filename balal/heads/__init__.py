"""Heads, the target models, and what they are made of.

    from balal.heads import scaling, svm

`svm`, `logistic` and `ldam` have a `fit` and a `predict` function on frozen features, `finetune` on
images; `pseudo` fits a head of `logistic` to pseudo-labels too. `rebalance` has rules against
imbalance for them, `scaling` scales their features, `choice` says which. Beneath them are `solver`
with `formulations` for `svm`, `softmax` for `logistic`, and `validation`. Nothing here is imported
by `import balal`.
"""

from typing import TYPE_CHECKING

from balal.heads import choice, logistic, pseudo, rebalance, scaling, svm

if TYPE_CHECKING:
    # They need the extra `balal[models]`, and are imported where they are asked for.
    from balal.heads import finetune, ldam

__all__ = ["choice", "finetune", "ldam", "logistic", "pseudo", "rebalance", "scaling", "svm"]
