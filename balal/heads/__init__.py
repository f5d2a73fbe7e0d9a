"""Heads, the target models, and their parts.

    from balal.heads import scaling, svm

`svm`, `logistic` and `ldam` have a `fit` and a `predict` function on frozen features, `finetune` on
images; `pseudo_labels` also fits a head of `logistic`, to pseudo-labels. `rebalance` has remedies
for imbalanced labels, `scaling` scales features, `model_selection` chooses among heads. Below them
are `svm_solver` with `svm_primal_dual` for `svm`, `softmax` for `logistic`, and `fitting` for all.
Nothing here is imported by `import balal`.
"""

from typing import TYPE_CHECKING

from balal.heads import logistic, model_selection, pseudo_labels, rebalance, scaling, svm

if TYPE_CHECKING:
    # They need the extra `balal[models]`, and are imported only on request.
    from balal.heads import finetune, ldam

__all__ = [
    "finetune",
    "ldam",
    "logistic",
    "model_selection",
    "pseudo_labels",
    "rebalance",
    "scaling",
    "svm",
]
