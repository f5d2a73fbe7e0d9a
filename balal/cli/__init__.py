"""The programs for a person with a pool: the console script `balal`, also `python -m balal`.

`main` finds the command. Each command is a module: its docstring is what `--help` prints,
`define_flags` defines its flags, and its `main` reads them and passes plain values on.
"""
