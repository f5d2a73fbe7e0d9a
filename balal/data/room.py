"""Room for large things: as many threads as there are cores may work on small images, but only a
few on images that fill the memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
