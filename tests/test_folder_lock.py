"""One program at a time in a folder, and what a kill leaves."""

import subprocess
import sys

import pytest

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
            pytest.raises(ValueError, match=f"in use by process {process.pid}: wait until"),
            locked(tmp_path),
        ):
            raise AssertionError("two at once")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert (tmp_path / ".lock").read_bytes() == b""


def test_a_folder_that_is_read_only_needs_no_lock(tmp_path):
    (tmp_path / ".lock").mkdir()  # As where it cannot be written, for root too.
    with locked(tmp_path), locked(tmp_path):
        assert (tmp_path / ".lock").is_dir()
