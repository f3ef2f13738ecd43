"""tune: see `sensai/stages/tune.py`; parameters as in MLproject."""

from cli import launch

if __name__ == "__main__":
    launch("tune")
