"""Experiment programs. Each file's first line says what question it answers; it runs as
`python -m experiments.<name>`."""

import sys
from importlib.util import find_spec

# As `python -m` has it until it has found the program, which imports JAX first. Where balal is on
# the path without being installed, the program hears of Control-C once it has.
if sys.argv[0] == "-m" and find_spec("balal_start"):
    from balal_start import heed

    heed()

_MISSING = [name for name in ("matplotlib", "sklearn", "absl", "tqdm") if find_spec(name) is None]
if _MISSING:
    from balal.extras import install

    sys.exit(f"error: {', '.join(_MISSING)} is not installed: {install('experiments')}")
