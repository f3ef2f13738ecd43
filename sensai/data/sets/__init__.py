"""Data sets by name: one kind a file.

A data set is a function that returns a `Source` (`sensai/data/sources.py`). The source names its content cheaply and reads it
when asked; nothing is read before. `ArraySource` serves data that some library hands over as arrays. The function's
parameters say what it uses:

| parameter | what it is |
| --- | --- |
| `data_dir` | text: the user's folder, perhaps empty |
| `download_dir` | Path: `data_dir`, or a folder below `work_dir` where that is empty |

| trait | what it declares | default |
| --- | --- | --- |
| `mirrored` | a mirrored image shows the same class, so that training may mirror images; for symbols it may not | True |

Imports without torch, so that the command line is parsed at once: heavy imports stand inside the functions.
"""

from sensai.parts import Family

DATASETS = Family("data set", __name__, "sensai.datasets", ("data_dir", "download_dir"), {"mirrored": True})
