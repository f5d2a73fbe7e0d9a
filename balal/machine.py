"""What this machine has: cores, memory and devices."""

import os
import re
from pathlib import Path
from typing import Any

import jax

# Where a container finds its memory limit: cgroups of version 2, and of version 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_USED = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of memory that this process may use: the machine's, or its container's where that is
    less; None where the system does not say."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return min([total, *(limit for path in _LIMITS if (limit := _number(Path(path))))])


def available() -> int | None:
    """Bytes of memory of the device that selections run on which are free now; None where the
    system does not say."""
    own = _accelerator()
    if own is not None:
        return own["bytes_limit"] - own.get("bytes_in_use", 0)
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read(Path("/proc/meminfo")))
    free = [1024 * int(found[1])] if found else []
    for limit, used in zip(_LIMITS, _USED, strict=True):
        most, now = _number(Path(limit)), _number(Path(used))
        if most is not None and now is not None:
            # What files have been read into memory is given back when it is needed.
            cached = re.search(
                r"^inactive_file (\d+)", _read(Path(used).parent / "memory.stat"), re.M
            )
            free.append(most - now + (int(cached[1]) if cached else 0))
    return max(min(free), 0) if free else None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, on the host or on a device.

    >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of ..."))
    (True, True)
    """
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


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


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
