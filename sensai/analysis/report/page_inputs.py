"""The artifacts of a tracking store, read for pages."""

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
    """The artifacts of runs in a store, each downloaded once, and links to the runs.

    Attributes:
        client: of the store.
    """

    client: MlflowClient
    _names: dict[str, set[str]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _contents: dict[tuple[str, str], bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def artifacts(self, run_id: str) -> set[str]:
        """Return the names of a run's artifacts."""
        if run_id not in self._names:
            self._names[run_id] = artifact_names(run_id, self.client.tracking_uri)
        return self._names[run_id]

    def content(self, run_id: str, name: str) -> bytes:
        """Return the content of an artifact."""
        if (run_id, name) not in self._contents:
            with downloaded(run_id, name, self.client.tracking_uri) as file:
                self._contents[run_id, name] = file.read_bytes()
        return self._contents[run_id, name]

    @contextmanager
    def reading(self, run_id: str, name: str) -> Iterator[bytes]:
        """Open an artifact; its content is read within the block.

        Raises:
            DamagedError: the block cannot read the content.
        """
        content = self.content(run_id, name)
        with reading(f"run {run_id}: its artifact {name!r}"):
            yield content

    def table(self, run_id: str, name: str) -> pd.DataFrame:
        """Return a table that a run logged as CSV.

        Raises:
            DamagedError: the artifact is no such table.
        """
        with self.reading(run_id, name) as content:
            return table_of(content)

    def link(self, stage: str, run_id: str) -> RunLink:
        """Return a link to a run, without a URL if no server shows it.

        MLflow completes the URL with the run's experiment.
        """
        uri = self.client.tracking_uri
        return RunLink(stage, run_id, f"{uri}/#/runs/{run_id}" if uri.startswith("http") else "")

    def links(self, run_ids: "pd.Series[str]") -> dict[str, str]:
        """Return run id -> URL of the runs that a server shows."""
        found = (self.link("", run_id) for run_id in run_ids.unique())
        return {each.run_id: each.url for each in found if each.url}


def table_of(content: bytes) -> pd.DataFrame:
    """Return the table in the content of a CSV artifact."""
    return read_table(io.BytesIO(content))
