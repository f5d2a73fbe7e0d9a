"""A program that is told to stop, by Control-C or SIGTERM: it ends within moments, whatever it is
doing."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from balal.cli.start import STOPPED

# Tenths of a second in which to clean up.
_PATIENCE = 5


@contextmanager
def heeded() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt in the block. Once it is left, the process ends
    with one sentence and the exit code 128 plus the number of the signal, and without what Python
    does at its end: JAX crashes there if it computes meanwhile.

    Python raises only once it is back from compiled code, which may take minutes where XLA
    compiles; and it drops what is raised in callbacks, as JAX has one in every garbage collection.
    So a thread raises again what was dropped, and ends the process where it still runs half a
    second after the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may say what signals do.
        return
    told: list[int] = []
    dropped, ending = threading.Event(), threading.Lock()
    unraisable, (ours, pythons) = sys.unraisablehook, socket.socketpair()

    def stop(number: int, _: Any) -> None:
        told.append(number)
        raise KeyboardInterrupt(number)

    def drop(what: Any) -> None:
        if told and issubclass(what.exc_type, KeyboardInterrupt):
            dropped.set()
        else:
            unraisable(what)

    # One that is ignored, as in the background of a script, stays so.
    before = {
        number: signal.signal(number, stop)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    pythons.setblocking(False)
    woken = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
    sys.unraisablehook = drop
    rest = (ours, set(before), dropped, ending)
    threading.Thread(target=_see_to_it, args=rest, daemon=True).start()
    try:
        yield
    except BaseException:
        if told:  # An import, for one, makes another exception of it.
            with suppress(OSError):
                sys.stdout.flush()
            _end(told[0], ending)
        raise
    finally:
        sys.unraisablehook = unraisable
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        pythons.close()


def _see_to_it(
    numbers: socket.socket, stopping: set[int], dropped: threading.Event, ending: threading.Lock
) -> None:
    """Ends the process half a second after one of the signals; returns once no more can come."""
    with numbers:
        # Python writes the number of each signal here at once, whatever the main thread does.
        while number := numbers.recv(1):
            if number[0] not in stopping:
                continue
            for _ in range(_PATIENCE):
                time.sleep(0.1)
                if dropped.is_set():
                    dropped.clear()
                    signal.raise_signal(number[0])
            _end(number[0], ending)


def _end(number: int, ending: threading.Lock) -> None:
    with ending:  # Of two threads, the second waits here for its end.
        print(STOPPED, file=sys.stderr, flush=True)
        os._exit(128 + number)
