"""The finished cells of a study as Parquet files, one each, which git keeps.

A study asks for the shard of a cell before it begins it, and writes it when the cell is finished. So it goes on where it was
stopped, on any machine that has the folder.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sensai.files import reading, whole_file, writing

Scalar = str | int | float | bool
# Every shard has these columns, of the cell or of what was measured.
REQUIRED = ("role", "seed", "train_images", "scope", "precision", "device", "commit")
_OWN = {"cell": "str", "combination": "str", "accuracy": "float64", "labels": "object", "answers": "object"}
_DIGEST = "digest"
_LONGEST_NAME = 80
# In a file of few rows statistics and types of columns would be larger than what they describe.
_SMALL: dict[str, Any] = {
    "compression": "zstd",
    "write_statistics": False,
    "store_schema": False,
    "use_dictionary": ["labels.list.element", "answers.list.element"],
}


def write_shard(
    folder: Path,
    cell: Mapping[str, Scalar],
    measured: Mapping[str, Scalar],
    labels: np.ndarray,
    answers: Mapping[str, np.ndarray],
) -> Path:
    """Write the results of one finished cell, whole or not at all; return the path of its shard.

    Args:
        folder: of the study; it is made if it does not exist.
        cell: what sets the cell apart within the study, by name: role, seed, method. The same cell has the same shard.
        measured: everything else that is worth a column: sizes, seconds, run ids, the commit. `REQUIRED` names what must be
            here or in the cell.
        labels: integers (N,) in [0, 65535], the classes of the test images.
        answers: way to combine the outputs (`raw` for a single network) -> integers (N,), the answered classes. Each is a row.

    Raises:
        ValueError: a required value is missing, a name is given twice or taken, or the answers are not of these images.
        StorageError: the shard cannot be written.
    """
    _check_names(cell, measured)
    truth = _classes(labels)
    answered = {name: _classes(each) for name, each in answers.items()}
    if not answered or any(len(each) != len(truth) for each in answered.values()):
        raise ValueError(f"there must be an answer to each of the {len(truth)} images, of one combination at least")
    rows = [
        {
            **{"cell": _key(cell), **cell, "combination": name, **measured},
            **{"accuracy": float(np.mean(each == truth)), "labels": truth, "answers": each},
        }
        for name, each in answered.items()
    ]
    path, frame = shard_path(folder, cell), pd.DataFrame(rows)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        whole = frame.assign(**{_DIGEST: _digest(frame)})
        whole.to_parquet(temporary, index=False, write_page_checksum=True, **_SMALL)
    return path


def _check_names(cell: Mapping[str, Scalar], measured: Mapping[str, Scalar]) -> None:
    """Refuse names that are missing, taken or given twice."""
    names = [*cell, *measured]
    if missing := [name for name in REQUIRED if name not in names]:
        raise ValueError(f"the cell or what was measured must have {', '.join(missing)}")
    if twice := [name for name, count in Counter([*names, *_OWN, _DIGEST]).items() if count > 1]:
        raise ValueError(f"a column must have one value, but {', '.join(twice)} is given twice, or made here")


def _classes(values: np.ndarray) -> np.ndarray:
    """Return class indices as uint16 (N,).

    Raises:
        ValueError: they are no indices of at most 65,536 classes.
    """
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu" or (array.size and not 0 <= array.min() <= array.max() < 2**16):
        raise ValueError("labels and answers must be integers in [0, 65535], one an image")
    return array.astype(np.uint16)


def shard_path(folder: Path, cell: Mapping[str, Scalar]) -> Path:
    """Return the path of a cell's shard: its values, for people, and a digest of the cell."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "_", "-".join(str(cell[name]) for name in sorted(cell)))[:_LONGEST_NAME]
    return folder / f"{readable}-{hashlib.sha256(_key(cell).encode()).hexdigest()[:12]}.parquet"


def _key(cell: Mapping[str, Scalar]) -> str:
    return json.dumps(cell, sort_keys=True)


def read_shard(path: Path) -> pd.DataFrame:
    """Return the rows of one shard, a row a combination.

    Raises:
        DamagedError: the file is no such shard, or not as it was written; the message names it and what to do.
    """
    with reading(f"{str(path)!r}", "delete it and start the study again, which computes this cell anew"):
        frame = pd.read_parquet(path, page_checksum_verification=True)
        rows = frame.drop(columns=_DIGEST)
        # Parquet has check sums for its pages only. A damaged footer may be read as other values.
        if set(frame[_DIGEST]) != {_digest(rows)}:
            raise ValueError("its content does not match its digest")
        return rows


def _digest(frame: pd.DataFrame) -> str:
    """Return a digest of names and values, which is the same with every version of the libraries."""
    content = hashlib.sha256()
    for name in sorted(frame.columns):
        content.update(name.encode())
        for value in frame[name].tolist():
            content.update(repr(value.tolist() if isinstance(value, np.ndarray) else value).encode())
    return content.hexdigest()


def has_shard(folder: Path, cell: Mapping[str, Scalar]) -> bool:
    """Return True if a cell is finished.

    Raises:
        DamagedError: its shard is damaged.
    """
    path = shard_path(folder, cell)
    return path.exists() and bool(set(read_shard(path)["cell"]) == {_key(cell)})


def read_shards(folder: Path) -> pd.DataFrame:
    """Return all shards of a study as one table.

    Returns:
        One row a cell and combination, in the order of the files' names: cell (JSON), combination, accuracy (fraction), labels
        and answers (uint16 (N,) each), and a column for each name of any cell and of anything measured. Whole numbers are
        Int64, NA where a cell has none. A folder without shards, or none at all, gives the first five columns without rows.

    Raises:
        DamagedError: as of `read_shard`.
    """
    frames = [_with_missing(read_shard(path)) for path in sorted(folder.glob("*.parquet"))]
    if not frames:
        return pd.DataFrame(columns=list(_OWN)).astype(_OWN)
    return pd.concat(frames, ignore_index=True)


def _with_missing(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose whole numbers may be missing."""
    return frame.astype(dict.fromkeys(frame.select_dtypes("int64").columns, "Int64"))
