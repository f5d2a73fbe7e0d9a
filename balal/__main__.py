"""`python -m balal` is the console script `balal`, but that Python has imported JAX before it hears
of Control-C (`balal.cli.start`)."""

from balal.cli.main import main

if __name__ == "__main__":
    main()
