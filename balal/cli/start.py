"""The console script `balal`, which Control-C and SIGTERM end with one sentence from its first
moment: `signals` can see to that only once JAX is imported, which takes seconds.

Whatever is imported as a part of `balal` imports JAX first. So the wheel has this file beside the
package as well, as the module `balal_start`.
"""

import os
import signal

STOPPED = "stopped; the same command continues with what is finished"


def main() -> None:
    """Runs the command that this process was called with."""
    heed()
    from balal.cli.main import main

    main()


def heed() -> None:
    """From now on SIGINT and SIGTERM end the process at once: there is nothing to clean up yet."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # One that is ignored, as in the background of a script, stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, _: object) -> None:
    # An exception would not do: imports make others of it, or drop it.
    try:
        os.write(2, f"{STOPPED}\n".encode())
    finally:
        os._exit(128 + number)
