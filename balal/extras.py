"""Packages that may be missing, and the command that installs them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """Wraps imports of packages that come with an extra of balal: if one is not installed, the
    error gives the command that installs it.

    Attributes:
      name: of the extra, in pyproject.toml.

    >>> with Extra("photos"):
    ...     import no_such_package
    Traceback (most recent call last):
    ModuleNotFoundError: no_such_package is not installed: python -m pip install 'balal[photos]'
    """

    name: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, _, error: BaseException | None, __) -> None:
        if isinstance(error, ModuleNotFoundError):
            raise ModuleNotFoundError(
                f"{error.name} is not installed: {install(self.name)}", name=error.name
            ) from error


def install(extra: str) -> str:
    """The command that installs an extra of balal."""
    return f"python -m pip install 'balal[{extra}]'"
