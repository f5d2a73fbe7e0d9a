"""A process that has the programs imported and forks a child for each job, to be killed or to meet
errors: otherwise all the time would go into imports.

A job is one line of JSON on stdin:

    task       what the child does, one of `TASKS`, with its `arguments`
    folder     in it, what changes files counts as an event: opening one for writing, syncing,
               renaming, deleting, making folders
    at         the number of the event, from 0, at which something goes wrong; null: nothing does
    error      what goes wrong: this error of `errno` is raised; null: the process is killed
    largest    no file may grow beyond this, as on a full disk; null: there is room

The answer is one line: the exit status, how many events there were, and what was printed.
Arithmetic is stood in for, as children that were forked cannot share JAX's threads: what is tested
is what happens to files.
"""

import errno
import hashlib
import itertools
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
from absl import flags

import balal
from balal import array_file, feature_cache, folder_lock
from balal.atomic_files import together
from balal.cli import command_line, inputs, main, output, pick, table
from experiments.common import cells

ROWS = 12


def picked(answers, out, budget):
    """`balal pick` among rows 0 to 11, of which it picks the first that are not answered."""
    choice = inputs.Choice("rows", [f"{row}.jpg" for row in range(ROWS)], None, None)

    def first_rows(name, pool, known, **_):
        rows = [row for row in range(ROWS) if row not in known][:budget]
        return rows, ["it comes first"] * len(rows)

    pick.inputs.read = lambda *_, **__: choice
    pick.inputs.look = lambda *_, **__: inputs.Seen(balal.Pool(None), "nothing", {})
    pick.name_source_classes = lambda *_: [""] * ROWS
    pick.jax.random.key = lambda seed: None
    pick.pick = first_rows
    words = ["pick", f"--budget={budget}", f"--out={out}", "--strategy=random"]
    main.run(words if answers is None else [*words, f"--answers={answers}"])


def extracted(folder):
    """What `features.extract` does with what a network saw in ten images."""
    ids, seen = tuple("abcdefghij"), np.arange(20, dtype=np.float32).reshape(10, 2)
    columns = dict(features=((2,), "float16"), margin=((), "float32"))
    with folder_lock.locked(Path(folder), read_only=True):
        made = dict(ids=ids, labels=np.full(10, -1, np.int32))
        done = feature_cache.begin(folder, dict(source="network"), columns, **made)
        for first in range(done, 10, 4):
            rows = slice(first, first + 4)
            shard = dict(features=seen[rows], margin=seen[rows, 0])
            feature_cache.write(folder, first, shard)
    feature_cache.read(folder)


def saved(path, source):
    """The arrays of one state in place of another's."""
    array_file.write(Path(path), array_file.read(Path(source), kind="a saved state"))


def experiment(out):
    """What the experiments do: finished cells, then all files of the results."""
    out = Path(out)
    with folder_lock.locked(out, first="results.json"):
        folder = cells.folder(out / "cells", dict(seed=0))
        for number in range(3):
            if cells.read(folder, f"cell-{number}") is None:
                cells.write(folder, f"cell-{number}", number**2)
        with together(out, first="results.json") as staged:
            output.write_json(staged / "results.json", dict(sum=5))
            table.write(staged / "results.csv", [dict(sum=5)])
            (staged / "plot.png").write_bytes(b"a plot")


class Dropping:
    """What is raised while one of these goes is dropped."""

    def __del__(self):
        time.sleep(0.3)


def told_to_stop(number, where):
    """Gets a signal from outside, where Python can raise, where it drops what is raised, or while
    it is in compiled code."""
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    if where == "dropped":
        Dropping()
    elif where == "compiled":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)
    time.sleep(60)


TASKS = {task.__name__: task for task in (picked, extracted, saved, experiment, told_to_stop)}


def serve():
    for line in sys.stdin:
        job = json.loads(line)
        counted, counting = os.pipe()
        heard, saying = os.pipe()
        child = os.fork()
        if not child:
            sys.stdout = sys.stderr = os.fdopen(saying, "w")
            run(job, counting)
        for end in (counting, saying):
            os.close(end)
        with open(heard, "rb") as said, open(counted, "rb") as events:
            text, number = said.read().decode(), len(events.read())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([status, number, text]), flush=True)


def run(job, counting):
    code = 1
    try:
        if job["largest"] is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest"], job["largest"]))
        # Tests that run in the background of a script would have it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        watch(job, counting)
        with command_line.user_errors(flags.FlagValues()):
            TASKS[job["task"]](**job["arguments"])
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def watch(job, counting):
    """Counts events, and has the one of the job go wrong."""
    folder, sync, events = job["folder"], os.fsync, itertools.count()

    def within(path, directory=-1):
        if isinstance(path, int) or directory not in (-1, None):
            number = path if isinstance(path, int) else directory
            path = os.readlink(f"/proc/self/fd/{number}")
        return os.fsdecode(path).startswith(folder)

    def hook(name, arguments):
        if name == "open":
            happens = arguments[2] & (os.O_WRONLY | os.O_RDWR) and within(arguments[0])
        elif name == "os.rename":
            happens = within(arguments[0])
        elif name in ("os.remove", "os.rmdir", "os.mkdir", "os.fsync"):
            happens = within(arguments[0], arguments[-1] if len(arguments) > 1 else -1)
        else:
            happens = False
        if happens:
            os.write(counting, b".")
            if next(events) == job["at"]:
                if job["error"] is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                number = getattr(errno, job["error"])
                # Writing and syncing name no file, opening and renaming do.
                named = [] if name == "os.fsync" else [arguments[0]]
                raise OSError(number, os.strerror(number), *named)

    def audited(descriptor):
        sys.audit("os.fsync", descriptor)
        sync(descriptor)

    os.fsync = audited
    sys.addaudithook(hook)


if __name__ == "__main__":
    serve()
