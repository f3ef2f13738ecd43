"""The figure and the table of stop rules, from the trainings of `analysis/studies/stop_curves.py`.

python analysis/stop_rules.py

The script makes docs/results/stop_rules.png, and the table `stop_rules` of docs/experiments.md.
"""

import json
import sys
from pathlib import Path

import pandas as pd

from sensai.analysis.figures.static_stopping import stop_regret
from sensai.analysis.markdown import write_table
from sensai.analysis.stop_regret import chosen, fronts, measured, replays

ROOT = Path(__file__).resolve().parent.parent
TRAININGS = ROOT / "analysis/results/stopping"
# The mean that a rule may give up on the half that it is fitted on: half a point.
MOST_GIVEN_UP = 0.005


def main() -> None:
    """Draw the figure and write the table."""
    replayed = replays(collected(TRAININGS))
    stop_regret(fronts(measured(replayed))).savefig(ROOT / "docs/results/stop_rules.png", dpi=150)
    write_table(ROOT / "docs/experiments.md", "stop_rules", shown(replayed))


def collected(folder: Path) -> pd.DataFrame:
    """Return the epochs of all trainings in a folder."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        sys.exit(f"{folder} has no trainings yet; analysis/studies/stop_curves.py makes them")
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


def shown(replayed: pd.DataFrame) -> pd.DataFrame:
    """Return the best setting of each rule as readers see it: a text a cell."""
    rows = [
        {
            "rule": row["rule"],
            "setting": ", ".join(f"`{name}={value:g}`" for name, value in json.loads(row["setting"]).items()),
            "members": f"{row['members']}",
            "epochs saved": f"{100 * row['saved']:.0f} %",
            "points given up, mean": _points(row["given_up"]),
            "95 % interval": f"{_points(row['low'])} to {_points(row['high'])}",
            "95th percentile": _points(row["given_up_95"]),
        }
        for row in chosen(replayed, MOST_GIVEN_UP).to_dict("records")
    ]
    return pd.DataFrame(rows)


def _points(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


if __name__ == "__main__":
    main()
