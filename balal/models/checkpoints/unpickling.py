"""Pickles of tensors, read as data: a name becomes a `Global`, never an object, and calling one
makes one of four plain results by hand.

Which names: what `torch.save` writes for state dicts, see `torch/_weights_only_unpickler.py` of
PyTorch 2.13.
"""

import io
from collections import OrderedDict
from typing import Any

from balal import pickles
from balal.models.checkpoints import tensors
from balal.models.checkpoints.tensors import Global, Storage
from balal.pickles import of, quoted


def load(stream: io.BytesIO) -> tuple[Any, dict[str, Storage]]:
    """What a pickle holds, and the storages that it mentions, by key. The stream is left at the end
    of the pickle.

    The result consists of what `pickles.load` makes, OrderedDict, `Tensor`, `Storage` and `Global`
    only.

    Args:
      stream: in memory.

    Raises: ValueError for a name or an instruction that tensors do not need, or a damaged pickle;
      in one sentence, without the path.

    >>> load(io.BytesIO(b"K\\x01K\\x02\\x86."))
    ((1, 2), {})
    """
    storages: dict[str, Storage] = {}

    def stored(reference: Any) -> Storage:
        storage = tensors.storage_of(reference)
        if storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"it describes storage {quoted(storage.key)} twice, and differently")
        return storage

    root = pickles.load(
        stream, named=tensors.permitted_global, called=_called, built=_built, stored=stored
    )
    return root, storages


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    return tensors.call_global(of(Global, function, "a permitted name").name, arguments)


def _built(target: Any, _: Any) -> None:
    # The versions of modules, which PyTorch attaches to a state dict as `_metadata`: not needed.
    of(OrderedDict, target, "an OrderedDict")
