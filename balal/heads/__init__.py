"""Heads, the target models: each module has a `fit` and a `predict` function, on frozen features or, `finetune`, on images.

    from balal.heads import scaling, svm

`svm`, `logistic`, `ldam` and `pseudo` are heads on features, `rebalance` has rules against imbalance for them, `choice` says which head.
Nothing here is imported by `import balal`.
"""
