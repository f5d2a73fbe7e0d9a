"""Pickles of tensors, read as data: an interpreter of the few pickle instructions that a checkpoint
needs, which can call nothing.

Why not `pickle.Unpickler` with a strict `find_class`: that keeps unknown names out, but the
unpickler still decides what happens to the permitted ones (REDUCE with any arguments, BUILD writing
any attributes), dictionaries still hash keys of any shape (nested pairs take exponential time), and
lengths that a file merely declares are allocated before they are read. Here the standard library
decodes the instructions (`pickletools.genops`, which runs none), and any instruction not handled
below is refused by name. A name becomes a `Global`, never an object; calling one makes one of four
plain results by hand. Time and memory are linear in the pickle's length, since nothing is copied,
compared or hashed that instructions can make large from a few bytes: equal strings become one, so
that comparing them again costs nothing, and no number that the file chooses is hashed.

Which instructions and names: what `torch.save` writes for state dicts, see
`torch/_weights_only_unpickler.py` of PyTorch 2.13.
"""

import io
from collections import OrderedDict
from collections.abc import Iterator
from pickletools import genops
from typing import Any

from balal.models.checkpoints import tensors
from balal.models.checkpoints.tensors import Global, Storage, quoted

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_WHOLE = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"}
_TEXT = {
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
}
_LITERALS = _WHOLE | _TEXT | {"FLOAT", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_LONGEST_NUMBER = 128
_NEVER = object()  # In place of objects that have no number.


def load(stream: io.BytesIO) -> tuple[Any, dict[str, Storage]]:
    """What a pickle holds, and the storages that it mentions, by key. The stream is left at the end
    of the pickle.

    The result consists of dict, OrderedDict, list, tuple, str, bytes, int, float, bool, None,
    `Tensor`, `Storage` and `Global` only. Lists and dicts may contain themselves; what dicts hold
    under numbers is left out.

    Args:
      stream: in memory, so that lengths declared by the pickle are bounded by its actual size.

    Raises: ValueError for a name or an instruction that tensors do not need, or a damaged pickle;
      in one sentence, without the path.

    >>> load(io.BytesIO(b"K\\x01K\\x02\\x86."))
    ((1, 2), {})
    """
    storages: dict[str, Storage] = {}
    try:
        return _run(stream, storages), storages
    except (IndexError, KeyError):
        raise ValueError(
            "its pickle is damaged: an instruction uses a value that was never stored"
        ) from None


def _run(stream: io.BytesIO, storages: dict[str, Storage]) -> Any:
    stack: list[Any] = []
    below: list[list[Any]] = []  # The stacks under each open mark.
    memo: list[Any] = []
    texts: dict[str, str] = {}
    copied = 0
    for step, (name, argument) in enumerate(_instructions(stream)):
        if name in _LITERALS:
            # A dictionary finds a key that is the same object without comparing it, letter by
            # letter, with the one it holds.
            stack.append(
                texts.setdefault(argument, argument)
                if type(argument) is str
                else _literal(argument)
            )
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(reversed(items)))
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in ("TUPLE", "LIST", "DICT"):
            items, stack = stack, below.pop()
            stack.append(
                tuple(items)
                if name == "TUPLE"
                else items
                if name == "LIST"
                else tensors.set_items({}, items)
            )
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("APPEND", "APPENDS"):
            items, stack = ([stack.pop()], stack) if name == "APPEND" else (stack, below.pop())
            _of(list, stack[-1], "a list").extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items, stack = (
                ([stack.pop(), stack.pop()][::-1], stack)
                if name == "SETITEM"
                else (stack, below.pop())
            )
            tensors.set_items(_of(dict, stack[-1], "a dictionary"), items)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            # Every object takes an instruction, and picklers count them. A list, since a file could
            # choose numbers that a dictionary takes forever to tell apart.
            if not 0 <= argument <= step:
                raise ValueError(
                    f"its pickle is damaged: it has an object number {quoted(argument)} after "
                    f"{step} instructions"
                )
            memo.extend([_NEVER] * (argument + 1 - len(memo)))
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo.append(stack[-1])
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument < 0 or memo[argument] is _NEVER:
                raise IndexError
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(tensors.permitted_global(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(
                tensors.permitted_global(
                    f"{_of(str, module, 'a module')}.{_of(str, attribute, 'a name')}"
                )
            )
        elif name == "BINPERSID":
            storage = tensors.storage_of(stack.pop())
            if storages.setdefault(storage.key, storage) != storage:
                raise ValueError(
                    f"it describes storage {quoted(storage.key)} twice, and differently"
                )
            stack.append(storage)
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            copied += sum(
                len(given)
                for given in _of(tuple, arguments, "a tuple of arguments")[:1]
                if type(given) is list
            )
            if copied > step:
                raise ValueError(
                    "it copies the same list again and again, which no checkpoint needs"
                )
            stack.append(
                tensors.call_global(_of(Global, function, "a permitted name").name, arguments)
            )
        elif name == "BUILD":
            # The versions of modules, which PyTorch attaches to a state dict as `_metadata`: not
            # needed, so ignored.
            stack.pop()
            _of(OrderedDict, stack[-1], "an OrderedDict")
        elif name == "STOP":
            result = stack.pop()
            if stack or below:
                raise ValueError("its pickle is damaged: it ends in the middle")
            return result
        else:
            raise ValueError(
                f"it holds the pickle instruction {name}, which tensors do not need, so it is not "
                f"executed"
            )


def _instructions(stream: io.BytesIO) -> Iterator[tuple[str, Any]]:
    try:
        for opcode, argument, _ in genops(stream):
            yield opcode.name, argument
    except (ValueError, OverflowError, MemoryError, DeprecationWarning) as error:
        # The warning is about backslashes in old strings, where warnings are errors.
        raise ValueError(f"its pickle is damaged: {ascii(str(error)[:100])[1:-1]}") from None


def _literal(value: Any) -> Any:
    # Arithmetic with numbers of a million digits takes minutes, and printing them raises another
    # error.
    if type(value) is int and value.bit_length() > _LONGEST_NUMBER:
        raise ValueError(
            f"it holds a whole number of {value.bit_length()} bits; at most {_LONGEST_NUMBER} are "
            f"read"
        )
    return value


def _of(kind: type, value: Any, wanted: str) -> Any:
    if isinstance(value, kind):
        return value
    raise ValueError(f"its pickle is damaged: expected {wanted}, got {quoted(value)}")
