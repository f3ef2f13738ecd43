"""A tracking store, as pages read it."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pandas as pd
from mlflow.tracking import MlflowClient

from sensai.analysis.report.page import RunLink
from sensai.analysis.runs import read_table
from sensai.files import reading
from sensai.tracking.artifacts import artifact_names, downloaded


@dataclass(frozen=True)
class Logged:
    """What runs have logged, each asked for once, and where they are shown.

    Attributes:
        client: of the store.
    """

    client: MlflowClient
    _names: dict[str, set[str]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _contents: dict[tuple[str, str], bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def artifacts(self, run_id: str) -> set[str]:
        """The names of what a run has."""
        if run_id not in self._names:
            self._names[run_id] = artifact_names(run_id, self.client.tracking_uri)
        return self._names[run_id]

    def content(self, run_id: str, name: str) -> bytes:
        """One of them."""
        if (run_id, name) not in self._contents:
            with downloaded(run_id, name, self.client.tracking_uri) as file:
                self._contents[run_id, name] = file.read_bytes()
        return self._contents[run_id, name]

    @contextmanager
    def reading(self, run_id: str, name: str) -> Iterator[bytes]:
        """One of them, to be read within the block.

        Raises:
            DamagedError: the block cannot read it.
        """
        content = self.content(run_id, name)
        with reading(f"run {run_id}: its artifact {name!r}"):
            yield content

    def table(self, run_id: str, name: str) -> pd.DataFrame:
        """A table that a run logged as CSV.

        Raises:
            DamagedError: it is none.
        """
        with self.reading(run_id, name) as content:
            return table_of(content)

    def link(self, stage: str, run_id: str) -> RunLink:
        """To a run, where a server shows it: MLflow leads on to the experiment that the run is in."""
        uri = self.client.tracking_uri
        return RunLink(stage, run_id, f"{uri}/#/runs/{run_id}" if uri.startswith("http") else "")

    def links(self, run_ids: "pd.Series[str]") -> dict[str, str]:
        """Run id -> where a server shows it, of those that one does."""
        found = (self.link("", run_id) for run_id in run_ids.unique())
        return {each.run_id: each.url for each in found if each.url}


def table_of(content: bytes) -> pd.DataFrame:
    """A table that a run logged as CSV."""
    return read_table(io.BytesIO(content))
