"""Packages that may be missing."""

import pytest

from balal.extras import Extra


def test_a_missing_package_is_reported_with_the_command_that_installs_it():
    with (
        pytest.raises(
            ModuleNotFoundError,
            match=r"^nothing is not installed: python -m pip install 'balal\[models\]'$",
        ),
        Extra("models"),
    ):
        import nothing  # noqa: F401  # pyright: ignore[reportMissingImports]


def test_the_outermost_extra_is_the_one_that_is_named():
    with pytest.raises(ModuleNotFoundError, match=r"nothing is .* 'balal\[photos\]'"):  # noqa: SIM117
        with Extra("photos"), Extra("models"):
            import nothing  # noqa: F401  # pyright: ignore[reportMissingImports]


def test_any_other_error_of_an_import_is_left_alone():
    with pytest.raises(ZeroDivisionError), Extra("models"):
        _ = 1 // 0
