"""Pickles read as data: an interpreter of the few pickle instructions that plain containers need,
which can call nothing.

Why not `pickle.Unpickler` with a strict `find_class`: that keeps unknown names out, but the
unpickler still decides what happens to the permitted ones (REDUCE with any arguments, BUILD writing
any attributes), dictionaries still hash keys of any shape (nested pairs take exponential time), and
lengths that a file merely declares are allocated before they are read. Here the standard library
decodes the instructions (`pickletools.genops`, which runs none), and any instruction not handled
below is refused by name. What a name, a call or an attached state stands for is the caller's to say
or to refuse. Time and memory are linear in the pickle's length, since nothing is copied, compared
or hashed that instructions can make large from a few bytes: equal strings become one, so that
comparing them again costs nothing, and no number that the file chooses is hashed.
"""

import io
from collections.abc import Callable, Iterator
from pickletools import genops
from typing import Any

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


def load(
    stream: io.BytesIO,
    *,
    named: Callable[[str], Any],
    called: Callable[[Any, tuple[Any, ...]], Any],
    built: Callable[[Any, Any], None],
    stored: Callable[[Any], Any] | None = None,
) -> Any:
    """What a pickle holds: dict, list, tuple, str, bytes, int, float, bool, None, and what the
    functions return. The stream is left at the end of the pickle.

    Lists and dicts may contain themselves; what dicts hold under numbers is left out. Text of
    Python 2 is bytes, and comes decoded as Latin-1.

    Args:
      stream: in memory, so that lengths declared by the pickle are bounded by its actual size.
      named: what a name, module and attribute with a dot between, stands for.
      called: what a call of that gives, from it and its arguments.
      built: takes in a state, after what it is attached to.
      stored: what a reference to something outside the pickle stands for; None: there is none.

    Raises: ValueError for a damaged pickle or an instruction that is not needed, in one sentence,
      without the path; and what the functions raise.

    >>> def refuse(*_):
    ...     raise ValueError("it is no plain data")
    >>> load(io.BytesIO(b"K\\x01K\\x02\\x86."), named=refuse, called=refuse, built=refuse)
    (1, 2)
    """
    try:
        return _run(stream, named, called, built, stored)
    except (IndexError, KeyError):
        raise ValueError(
            "its pickle is damaged: an instruction uses a value that was never stored"
        ) from None


def _run(stream, named, called, built, stored) -> Any:
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
                else set_items({}, items)
            )
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("APPEND", "APPENDS"):
            items, stack = ([stack.pop()], stack) if name == "APPEND" else (stack, below.pop())
            of(list, stack[-1], "a list").extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items, stack = (
                ([stack.pop(), stack.pop()][::-1], stack)
                if name == "SETITEM"
                else (stack, below.pop())
            )
            set_items(of(dict, stack[-1], "a dictionary"), items)
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
            stack.append(named(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(named(f"{of(str, module, 'a module')}.{of(str, attribute, 'a name')}"))
        elif name == "BINPERSID" and stored is not None:
            stack.append(stored(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            copied += sum(
                len(given)
                for given in of(tuple, arguments, "a tuple of arguments")[:1]
                if type(given) is list
            )
            if copied > step:
                raise ValueError("it copies the same list again and again, which no data needs")
            stack.append(called(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            built(stack[-1], state)
        elif name == "STOP":
            result = stack.pop()
            if stack or below:
                raise ValueError("its pickle is damaged: it ends in the middle")
            return result
        else:
            raise ValueError(
                f"it holds the pickle instruction {name}, which its data do not need, so it is not "
                f"executed"
            )


def set_items(target: dict, items: list[Any]) -> dict:
    """`target` with `items`: key, value, key, value, ...; ValueError unless keys are names or whole
    numbers.

    What has a number is left out: an optimizer's state, never a network's. Python hashes names by
    a secret, whereas a file can choose numbers, and nested pairs, that take forever to tell apart.
    """
    if len(items) % 2:
        raise ValueError("its pickle is damaged: a dictionary has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, int):
            raise ValueError(
                f"it has a dictionary with {quoted(key)} as a key; only names and whole numbers "
                f"are read"
            )
        if type(key) is str:
            target[key] = value
    return target


def of(kind: type, value: Any, wanted: str) -> Any:
    """`value` if it is of that kind; ValueError, with what was wanted in words, otherwise."""
    if isinstance(value, kind):
        return value
    raise ValueError(f"its pickle is damaged: expected {wanted}, got {quoted(value)}")


def quoted(value: Any) -> str:
    """A name or number from a file, quoted and short enough for a sentence, with what is not
    printed written as in Python; of anything else its type."""
    text = repr(value) if isinstance(value, str | int) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


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
