"""Heads, the target models: each module has a `fit` and a `predict` function on frozen features.

    from balal.heads import scaling, svm

Nothing here is imported by `import balal`.
"""
