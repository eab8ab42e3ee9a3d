"""`python -m wordmask`: the command line."""

from wordmask.cli import main

if __name__ == "__main__":
    main()
