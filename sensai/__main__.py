"""`python -m sensai`: the same as the command `sensai`."""

from sensai.cli import main

if __name__ == "__main__":
    main()
