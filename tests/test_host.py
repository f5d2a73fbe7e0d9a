"""Files that are written whole, and packages that may be missing."""

import threading

import pytest

from balal import host


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), host.atomic_write(path) as file:  # noqa: PT012
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with host.atomic_write(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["answers.csv"]


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "answers.csv"

    def other():
        with host.atomic_write(path) as file:
            file.write(b"other")

    with host.atomic_write(path) as file:
        file.write(b"first, ")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert path.read_text() == "other"
        file.write(b"and whole")
    assert path.read_text() == "first, and whole"


def test_a_missing_package_is_reported_with_the_command_that_installs_it():
    with (
        pytest.raises(
            ModuleNotFoundError,
            match=r"^nothing is not installed: python -m pip install 'balal\[models\]'$",
        ),
        host.Extra("models"),
    ):
        import nothing  # noqa: F401  # pyright: ignore[reportMissingImports]


def test_the_outermost_extra_is_the_one_that_is_named():
    with pytest.raises(ModuleNotFoundError, match=r"nothing is .* 'balal\[photos\]'"):  # noqa: SIM117
        with host.Extra("photos"), host.Extra("models"):
            import nothing  # noqa: F401  # pyright: ignore[reportMissingImports]


def test_any_other_error_of_an_import_is_left_alone():
    with pytest.raises(ZeroDivisionError), host.Extra("models"):
        _ = 1 // 0
