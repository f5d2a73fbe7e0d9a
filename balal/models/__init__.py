"""Source models: Flax networks that turn images into features and logits, and the weights that others have trained for them.

Weights are read without PyTorch and without running anything that a file says (`weights`), so that a network from anywhere can be the
source of a pool. Nothing here is imported by `import balal`; the networks need the extra `balal[models]`, the reading of weights does not.
"""
