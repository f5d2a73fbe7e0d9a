"""Room for large things: as many threads as there are cores may work on small images, but only a
few on images that fill the memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from balal import machine

# What a pixel takes while it is decoded, at most about: its colours in Pillow (4), once more while
# they are turned (4), the result (3), and what the decoders of JPEG and JPEG 2000 keep beside them.
# To be resized it takes less: the result, and a channel in floating-point numbers, twice.
_BYTES_A_PIXEL = 20


class Room:
    """What threads take together is bounded; who would take too much waits for others to finish.

    One that asks for more than there is gets all of it, alone.
    """

    def __init__(self, size: int):
        self._size, self._taken = size, 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Takes so much of the room while the block runs. A block may not ask for more within."""
        amount = min(amount, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + amount <= self._size)
            self._taken += amount
        try:
            yield
        finally:
            with self._changed:
                self._taken -= amount
                self._changed.notify_all()


@cache
def of_pixels() -> Room:
    """For all pixels that are decoded or resized at a time: a quarter of the machine's memory."""
    return Room((machine.memory() or 2**32) // (4 * _BYTES_A_PIXEL))
