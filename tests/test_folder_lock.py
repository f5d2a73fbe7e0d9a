"""One program at a time in a folder, and what a kill leaves."""

import errno
import os
import platform
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from absl import flags

from balal.folder_lock import locked

HOLD = """
import sys, time
from pathlib import Path
from balal.folder_lock import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_another_process_is_refused_with_its_number_until_it_is_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        with (
            pytest.raises(
                ValueError,
                match=f"in use by process {process.pid} on {platform.node()}: wait until",
            ),
            locked(tmp_path),
        ):
            raise AssertionError("two at once")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {platform.node()}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("program", ["pick", "extract", "one_shot", "compare", "heads"])
def test_a_program_is_refused_before_it_reads_or_writes_anything(program, tmp_path):
    command = program in ("pick", "extract")
    main = import_module(f"balal.cli.{program}" if command else f"experiments.{program}")
    values = flags.FlagValues()
    main.define_flags(values)
    there = "--data_dir=missing" if program == "extract" else "--features=missing.npy"
    values(["program", f"--out={tmp_path / 'out'}", there])
    with locked(tmp_path / "out"):
        with pytest.raises(ValueError, match=f"out is in use by process {os.getpid()} on"):
            main.main(values, []) if command else main.main(values)
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_a_folder_that_is_read_only_is_held_only_by_those_who_write(tmp_path, monkeypatch):
    def refused(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refused)
    with locked(tmp_path, read_only=True), locked(tmp_path, read_only=True):
        pass
    with pytest.raises(PermissionError), locked(tmp_path):
        raise AssertionError("held")


def test_folders_that_were_made_in_vain_go_again(tmp_path):
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not list(tmp_path.iterdir())
