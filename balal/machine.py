"""What this machine has: cores, memory and devices."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None

# How Linux says which control group a process is in, where their files are, and what those of
# memory are called: limit and use. Control groups of version 2, and of version 1.
_GROUPS = (
    (r"^0::/(.*)", Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (
        r"^\d+:(?:\S*,)?memory(?:,\S*)?:/(.*)",
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
    ),
)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of memory that this process may use: the machine's, or what its container or `ulimit`
    allows where that is less; None where the system does not say."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    allowed = [limit for limit, _ in _limits()]
    own = _address_space()
    return min([total, *allowed, *([] if own is None else [own])])


def available() -> int | None:
    """Bytes of memory of the device that selections run on which are free now, and which its
    container and `ulimit` allow; None where the system does not say."""
    own = _accelerator()
    if own is not None:
        return own["bytes_limit"] - own.get("bytes_in_use", 0)
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read(Path("/proc/meminfo")))
    free = [1024 * int(found[1])] if found else []
    free += [limit - used for limit, used in _limits()]
    own, held = _address_space(), re.match(r"\d+", _read(Path("/proc/self/statm")))
    if own is not None and held is not None:
        free.append(own - int(held[0]) * os.sysconf("SC_PAGE_SIZE"))
    return max(min(free), 0) if free else None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, on the host or on a device.

    >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of ..."))
    (True, True)
    """
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        # The second is what programs on CPUs say that are dispatched in the background.
        and ("RESOURCE_EXHAUSTED" in str(error) or "Out of memory allocating" in str(error))
    )


def details(error: BaseException) -> str:
    """What an error says, to be put in brackets.

    >>> details(MemoryError()), details(RuntimeError("RESOURCE_EXHAUSTED: Out of memory."))
    ('no details', 'RESOURCE_EXHAUSTED: Out of memory')
    """
    return str(error).rstrip(".") or "no details"


def device_memory() -> int | None:
    """Bytes of memory of the device that selections run on: an accelerator's own, else
    `memory`."""
    own = _accelerator_memory()
    return memory() if own is None else own


def devices() -> str:
    """How many devices JAX sees, of what kind, and the memory of an accelerator.

    >>> devices().endswith("x cpu")
    True
    """
    found, own = jax.devices(), _accelerator_memory()
    each = "" if own is None else f" with {written(own)} for JAX"
    return f"{len(found)} x {found[0].device_kind}{each}"


def written(count: int) -> str:
    """A number of bytes, easy to read.

    >>> written(12_800_000_000), written(2_340_000)
    ('12.80 GB', '2.34 MB')
    """
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def _accelerator_memory() -> int | None:
    """Bytes that JAX may use on one accelerator; None where there is none, or it does not say."""
    own = _accelerator()
    return None if own is None else own["bytes_limit"]


def _accelerator() -> dict[str, int] | None:
    """What one accelerator says of its memory."""
    device: Any = jax.devices()[0]
    stats = None if device.platform == "cpu" else device.memory_stats()
    return stats if stats and "bytes_limit" in stats else None


def _limits() -> Iterator[tuple[int, int]]:
    """The limit of every control group that this process is in, and of those around it, each with
    what is used of it."""
    mine = _read(Path("/proc/self/cgroup"))
    for pattern, root, most, now in _GROUPS:
        found = re.search(pattern, mine, re.M)
        inner = root / found[1] if found else root
        # In a container the path may be one that only the host has; its own group is the root then.
        for folder in {root, *(each for each in (inner, *inner.parents) if root in each.parents)}:
            limit, used = _number(folder / most), _number(folder / now)
            if limit is not None and used is not None:
                # What files have been read into memory is given back when it is needed.
                cached = re.search(r"^inactive_file (\d+)", _read(folder / "memory.stat"), re.M)
                yield limit, used - (int(cached[1]) if cached else 0)


def _address_space() -> int | None:
    """Bytes that `ulimit -v` allows this process, None without a limit."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
