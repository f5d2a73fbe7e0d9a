"""Processes that are killed, and meet errors, at every change that they make to files: what was
there stays, what appears is whole, and the same command then just works."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from balal import array_file
from balal.cli import signals

pytestmark = pytest.mark.slow

LABELLED = (
    "rank,file,label,reason,source_class,note\n,0.jpg,cat,,,blurred\n2,1.jpg,dog,,,\n3,2.jpg,,,,\n"
)


@pytest.fixture(scope="module")
def nursery():
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.nursery"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )

    def run(folder, task, arguments, *, at=None, error=None, largest=None):
        job = dict(task=task, arguments=arguments, folder=str(folder), at=at, error=error)
        process.stdin.write(json.dumps(job | dict(largest=largest), default=str) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield run
    process.stdin.close()
    process.wait()
    process.stdout.close()


def first_picks(folder):
    return "picked", dict(answers=None, out=folder / "out", budget=3)


def next_picks(folder):
    (folder / "out").mkdir()
    for name in ("picks.csv", "contact_sheet.html", "results.json"):
        (folder / "out" / name).write_text(
            LABELLED if name == "picks.csv" else "of the first round"
        )
    return "picked", dict(answers=folder / "out" / "picks.csv", out=folder / "out", budget=3)


def extracted(folder):
    return "extracted", dict(folder=folder / "cache")


def saved(folder):
    array_file.write(folder / "state.npz", dict(rows=np.arange(5)))
    array_file.write(folder.with_name("newer.npz"), dict(rows=np.arange(3)))
    return "saved", dict(path=folder / "state.npz", source=folder.with_name("newer.npz"))


def experiment(folder):
    return "experiment", dict(out=folder / "out")


TASKS = [first_picks, next_picks, extracted, saved, experiment]
# What `together` replaces first, and what it replaces with it.
FIRST = {
    next_picks: ("out/picks.csv", ["out/picks.csv", "out/results.json"]),
    experiment: ("out/results.json", ["out/results.json", "out/results.csv", "out/plot.png"]),
    first_picks: ("out/picks.csv", ["out/picks.csv", "out/results.json"]),
}


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def visible(files):
    """Those that people and programs see, without what is hidden or in hidden folders."""
    return {
        name: found
        for name, found in files.items()
        if not any(part.startswith(".") for part in name.split("/"))
    }


@pytest.fixture
def stage(nursery, tmp_path):
    """Runs a task in a fresh folder, once undisturbed to learn what it changes."""
    folder = tmp_path / "work"

    def fresh(task):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return task(folder)

    def prepare(task):
        job = fresh(task)
        before = content(folder)
        status, events, said = nursery(folder, *job)
        assert status == 0, said
        return before, content(folder), events

    return folder, fresh, prepare


def check(task, before, after, found):
    """What was there is as it was or as it will be; files that belong together are so together, but
    for those that follow the first of them."""
    for name, data in visible(found).items():
        if task is not extracted:
            assert data in (before.get(name), after[name]), name
    assert before.keys() <= found.keys()
    if task is next_picks and found["out/picks.csv"] != before["out/picks.csv"]:
        assert found["out/picks.before.csv"] == before["out/picks.csv"]
    if task in FIRST:
        first, others = FIRST[task]
        if found.get(first) == before.get(first):
            assert all(found.get(name) == before.get(name) for name in others)


@pytest.mark.parametrize("task", TASKS)
def test_a_kill_at_any_moment_leaves_everything_whole_and_the_same_command_goes_on(
    task, stage, nursery
):
    folder, fresh, prepare = stage
    before, after, events = prepare(task)
    assert not any(name.split("/")[-1].startswith(".") for name in after)
    for at in range(events):
        job = fresh(task)
        status, _, _ = nursery(folder, *job, at=at)
        assert status == -9, at
        check(task, before, after, content(folder))
        status, _, said = nursery(folder, *job)
        assert status == 0, said
        assert content(folder) == after, at


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("task", TASKS)
def test_an_error_at_any_moment_is_one_sentence_and_nothing_is_half_written(
    task, error, stage, nursery
):
    folder, fresh, prepare = stage
    before, after, events = prepare(task)
    for at in range(events):
        job = fresh(task)
        status, _, said = nursery(folder, *job, at=at, error=error)
        assert status in (0, 2), said
        if status == 2:
            assert said.count("\n") == 1, said
            assert str(folder) in said
        check(task, before, after, content(folder))
        status, _, said = nursery(folder, *job)
        assert status == 0, said
        assert content(folder) == after, at


@pytest.mark.parametrize("task", TASKS)
def test_a_disk_that_is_full_in_the_middle_of_a_file_is_told_and_changes_nothing(
    task, stage, nursery
):
    folder, fresh, prepare = stage
    before, after, _ = prepare(task)
    for largest in (0, 1, 20, 100, 200):
        job = fresh(task)
        status, _, said = nursery(folder, *job, largest=largest)
        if status == 0:
            assert content(folder) == after
            continue
        assert status == 2, said
        assert str(folder) in said
        assert said.count("\n") == 1, said
        check(task, before, after, content(folder))
        status, _, said = nursery(folder, *job)
        assert status == 0, said
        assert content(folder) == after


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["raised", "dropped", "compiled"])
def test_a_program_that_is_told_to_stop_ends_at_once_with_one_sentence(
    number, where, nursery, tmp_path
):
    started = time.monotonic()
    status, _, said = nursery(tmp_path, "told_to_stop", dict(number=number, where=where))
    assert (status, said) == (128 + number, f"{signals.STOPPED}\n")
    assert time.monotonic() - started < 10


def started(command, **options):
    # Tests that run in the background of a script would have it ignored.
    heard = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", heard, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        **options,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "command",
    [
        [Path(sys.executable).with_name("balal"), "doctor"],
        [sys.executable, "-m", "experiments.one_shot"],
    ],
    ids=["console script", "experiment"],
)
def test_a_program_that_is_told_to_stop_while_it_imports_jax_says_the_same(
    number, command, tmp_path
):
    # In place of JAX.
    (tmp_path / "jax.py").write_text("import time; print('here', flush=True); time.sleep(60)")
    with started(command, env=os.environ | dict(PYTHONPATH=str(tmp_path))) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (128 + number, f"{signals.STOPPED}\n")


@pytest.mark.nightly
@pytest.mark.parametrize("seconds", [0.0, 0.2, 1.0, 2.0])
def test_control_c_in_a_terminal_is_for_the_main_process_alone(seconds, tmp_path):
    """Every process of the group gets it, those that fit heads while they are being started."""
    command = "-m experiments.one_shot --pool_rows=600 --budgets=30 --strategies=ent --rules=none"
    words = [sys.executable, *command.split(), "--workers=1", f"--out={tmp_path}"]
    with started(words, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("cells/*-*.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, f"{signals.STOPPED}\n")
    assert not list(tmp_path.glob("cells/.shared-*"))
