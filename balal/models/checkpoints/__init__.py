"""Checkpoints, the files in which trained networks come, read as tables of named arrays without
PyTorch and without running any code in them. `balal.models.weights` is the way in.

One module a format: `safetensors`, and `pytorch` for its zip and its legacy stream. Those two hold
a pickle: `unpickling` reads it as data, and `tensors` says what it may describe. `arrays` makes
arrays of the tensors, within the memory that the size of the file justifies. A file is taken for
hostile until it has been read. `balal.models.weights.read` finds out which format a file has.
"""

from balal.models.checkpoints.pytorch import legacy, zipped
from balal.models.checkpoints.safetensors import safetensors
from balal.models.checkpoints.tensors import Tensor, quoted

__all__ = ["Tensor", "legacy", "quoted", "safetensors", "zipped"]
