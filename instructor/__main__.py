"""`python -m instructor`: the command line."""

from instructor.cli import app

if __name__ == "__main__":
    app()
