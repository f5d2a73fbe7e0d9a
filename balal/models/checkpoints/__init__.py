"""Checkpoints, the files in which trained networks come, read as tables of named arrays without
PyTorch and without running any code in them. `balal.models.weights` is the way in.

`layouts` has one function for each of three layouts: safetensors, PyTorch's zip and PyTorch's
legacy stream. The last two hold a pickle: `unpickling` reads it as data, and `tensors` says what it
may describe. `arrays` makes arrays of the tensors, within the memory that the size of the file
justifies. A file is taken for hostile until it has been read.
"""

from balal.models.checkpoints.layouts import legacy, safetensors, zipped
from balal.models.checkpoints.tensors import Tensor, quoted

__all__ = ["Tensor", "legacy", "quoted", "safetensors", "zipped"]
