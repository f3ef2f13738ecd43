"""grouping_study: see `sensai/stages/grouping_study.py`; parameters as in MLproject."""

from cli import launch

if __name__ == "__main__":
    launch("grouping_study")
