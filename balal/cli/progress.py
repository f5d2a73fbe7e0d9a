"""Progress bars with the time left: on stderr, and silent where that is not a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(description: str, *, unit: str, leave: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A function for `progress=` of the library, called with how many are done and of how many.

    What is done at its first call counts as the work of an earlier run.
    """
    with tqdm(desc=description, unit=unit, leave=leave, disable=None) as shown:

        def tell(done: int, total: int) -> None:
            if shown.total is None:
                shown.total, shown.initial, shown.n = total, done, done
            shown.update(done - shown.n)

        yield tell
