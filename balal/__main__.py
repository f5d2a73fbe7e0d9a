"""`python -m balal` is the console script `balal`."""

from balal.cli.main import main

if __name__ == "__main__":
    main()
