"""`python -m gifsplain` is the program `gifsplain`."""

from gifsplain.cli import main

if __name__ == "__main__":
    main()
