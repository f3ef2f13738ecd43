"""baseline: see `sensai/stages/baseline.py`; parameters as in MLproject."""

from cli import launch

if __name__ == "__main__":
    launch("baseline")
