"""A self-contained page: tables that a click sorts, figures drawn as they come into view, the data of both as CSV."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape, unescape
from pathlib import Path
from typing import ClassVar

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

# With this policy the browser fetches nothing and sends nothing, even if a script asks for it.
_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
# By default Plotly shows a button that sends the figure to another host.
_PLOTLY = {"showSendToCloud": False, "displaylogo": False, "responsive": True}


@dataclass(frozen=True)
class Text:
    """Paragraphs under a title.

    Attributes:
        title: above them.
        paragraphs: from top to bottom.
    """

    kind: ClassVar = "text"
    title: str
    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        title: above it.
        frame: its columns; texts stay as they are, whole numbers are in full, other numbers to `digits`.
        digits: format of floats, as `format` takes it; the CSV has all digits.
        links: text of a cell -> its URL.
    """

    kind: ClassVar = "table"
    title: str
    frame: pd.DataFrame
    digits: str = ".4g"
    links: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> Markup:
        """Return the table as HTML, with names escaped."""
        shown = self.frame.apply(_whole_in_full).to_html(
            index=False, border=0, classes="sorted", na_rep="", float_format=f"{{:{self.digits}}}".format
        )
        if self.links:
            shown = re.sub(r"(?<=<td>)[^<]+(?=</td>)", self._linked, shown)
        return Markup(shown)  # noqa: S704  (made by pandas, names escaped)

    def _linked(self, cell: re.Match[str]) -> str:
        url = self.links.get(unescape(cell[0]))
        return cell[0] if url is None else f'<a href="{escape(url)}">{cell[0]}</a>'

    def csv(self) -> str:
        """Return the table as a data URI of CSV."""
        return _csv_uri(self.frame.to_csv(index=False).encode())


@dataclass(frozen=True)
class Plot:
    """An interactive figure.

    Attributes:
        title: above it.
        note: below it.
        figure: drawn by Plotly.
        data: the data behind the figure, as CSV.
    """

    kind: ClassVar = "plot"
    title: str
    note: str
    figure: go.Figure
    data: bytes

    def json(self) -> Markup:
        """Return the figure as JSON for a script element, without `<`, which could begin the end tag."""
        return Markup(self.figure.to_json().replace("<", r"\u003c"))  # noqa: S704

    def csv(self) -> str:
        """Return the data behind the figure as a data URI of CSV."""
        return _csv_uri(self.data)


@dataclass(frozen=True)
class Image:
    """A figure as it was logged.

    Attributes:
        title: above it.
        note: below it.
        png: the image.
    """

    kind: ClassVar = "image"
    title: str
    note: str
    png: bytes

    def src(self) -> str:
        """Return the image as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class RunLink:
    """A run behind the page.

    Attributes:
        stage: its stage.
        run_id: its id.
        url: its address in the MLflow UI; empty if no server shows it.
    """

    stage: str
    run_id: str
    url: str = ""


Part = Text | Table | Plot | Image


def render_page(title: str, parts: Sequence[Part], runs: Sequence[RunLink], config: Mapping[str, object]) -> str:
    """Render a page as HTML without references to other files or hosts, except links to the runs.

    Args:
        title: of the page.
        parts: from top to bottom.
        runs: listed below them.
        config: the parameters that were asked for.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    return environment.get_template("page.html").render(
        title=title,
        parts=parts,
        runs=runs,
        config=config,
        policy=_POLICY,
        plotly=_PLOTLY,
        library=Markup(get_plotlyjs()),  # noqa: S704  (plotly's own)
    )


def _whole_in_full(column: pd.Series) -> pd.Series:
    """Return a column of whole floats, as logged counts are, as texts in full; return any other column as it is."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        return column.map("{:.0f}".format, na_action="ignore").astype("object")
    return column


def _csv_uri(content: bytes) -> str:
    return f"data:text/csv;base64,{base64.b64encode(content).decode()}"
