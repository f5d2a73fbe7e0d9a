"""The programs of a person with a pool: the console script `balal`, also `python -m balal`.

`main` finds the command; each command is a module with its description, which `--help` prints, its
flags (`define_flags`), and a `main` that reads them and hands plain values on.
"""
