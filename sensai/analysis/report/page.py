"""A self-contained page: tables that a click sorts, figures drawn as they come into view, the data of both as CSV.

`page.html` holds its structure, `page.css` its look on screens and on paper, `page.js` its behaviour.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sensai.analysis.report.column_words import ColumnWords, words_for, written

# With this policy the browser fetches nothing and sends nothing, even if a script asks for it.
_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
# Plotly's buttons would cover the legend, and one of them sends the figure to another host. Zoom needs none of them.
_PLOTLY = {"displayModeBar": False, "responsive": True}
_SHORT_ID = 8
# A longer table would push all else far down.
_MOST_ROWS = 40


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


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: as a reader sees it.
        url: where it leads; empty if nowhere.
        hover: all of a text that is shortened, or its explanation, for the pointer.
    """

    text: str
    url: str = ""
    hover: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: the logged name.
        words: for the reader.
        cells: from top to bottom.
        is_text: False if it holds numbers.
    """

    name: str
    words: ColumnWords
    cells: Sequence[Cell]
    is_text: bool

    @property
    def explained(self) -> str:
        """Return the logged name with the definition."""
        return ": ".join(filter(None, (self.name, self.words.definition)))


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        title: above it.
        reading: how to read it, in a sentence.
        frame: its columns under their logged names.
        links: text of a cell -> its URL.
        hovers: text of a cell -> its explanation, for the pointer.
        full: the table for the CSV, where it has more than is shown.
    """

    kind: ClassVar = "table"
    title: str
    reading: str
    frame: pd.DataFrame
    links: Mapping[str, str] = field(default_factory=dict)
    hovers: Mapping[str, str] = field(default_factory=dict)
    full: pd.DataFrame | None = None

    @cached_property
    def columns(self) -> Sequence[Column]:
        """Return the columns as a reader sees them, without those that are empty."""
        shown = self.frame.dropna(axis="columns", how="all") if len(self.frame) else self.frame
        return [self._column(str(name), values) for name, values in shown.items()]

    @property
    def is_long(self) -> bool:
        """Return True if the table scrolls by itself, under its headings."""
        return len(self.frame) > _MOST_ROWS

    @property
    def rows(self) -> Iterator[Sequence[Cell]]:
        """Return the cells, row by row."""
        return zip(*(each.cells for each in self.columns), strict=True)

    def csv(self) -> str:
        """Return the table as a data URI of CSV."""
        return _csv_uri((self.frame if self.full is None else self.full).to_csv(index=False).encode())

    def _column(self, name: str, values: pd.Series) -> Column:
        words = words_for(name)
        cells = [self._cell(name, words, value) for value in values.tolist()]
        is_text = name == "classes" or not all(_is_number(each.text) for each in cells)
        return Column(name, words, cells, is_text)

    def _cell(self, name: str, words: ColumnWords, value: Any) -> Cell:
        if pd.isna(value):
            return Cell("")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        text = written(value, words.unit) if is_number else str(value)
        if name == "run_id":
            return Cell(text[:_SHORT_ID], self.links.get(text, ""), text)
        return Cell(text, self.links.get(text, ""), self.hovers.get(text, ""))


@dataclass(frozen=True)
class Plot:
    """One interactive figure, or several small ones of one kind.

    Attributes:
        title: above it.
        reading: how to read it, in a sentence.
        figures: drawn by Plotly.
        data: the data behind them, as CSV.
        shape: a class of the stylesheet: "" as wide as the page, "square" for matrices.
    """

    kind: ClassVar = "plot"
    title: str
    reading: str
    figures: Sequence[go.Figure]
    data: bytes
    shape: str = ""

    def json(self, figure: go.Figure) -> Markup:
        """Return a figure as JSON for a script element, without `<`, which could begin the end tag."""
        return Markup(figure.to_json().replace("<", r"\u003c"))  # noqa: S704

    def csv(self) -> str:
        """Return the data behind the figures as a data URI of CSV."""
        return _csv_uri(self.data)


@dataclass(frozen=True)
class Image:
    """A figure as it was logged.

    Attributes:
        title: above it.
        reading: how to read it, in a sentence.
        png: the image.
    """

    kind: ClassVar = "image"
    title: str
    reading: str
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


class Number(NamedTuple):
    """One of the numbers on the first screen.

    Attributes:
        label: what it is.
        value: with its unit.
        note: what it is compared with.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Opening:
    """The first screen: the result in words, in numbers and in a figure.

    Attributes:
        heading: above the words.
        sentences: the result; the first one says the most.
        terms: word in the sentences -> its explanation.
        purpose: of the next command, like `to use the control`; empty if it explains itself.
        command: the next command; empty if there is none.
        numbers: those that matter most.
        plot: what the words say, as a figure; None: there is none.
        warning: what casts doubt on all of it; empty if nothing does.
    """

    heading: str
    sentences: Sequence[str]
    terms: Mapping[str, str] = field(default_factory=dict)
    purpose: str = ""
    command: str = ""
    numbers: Sequence[Number] = ()
    plot: Plot | None = None
    warning: str = ""


Part = Text | Table | Plot | Image


def render_page(
    title: str,
    about: Sequence[str],
    opening: Opening,
    parts: Sequence[Part],
    runs: Sequence[RunLink],
    config: Mapping[str, object],
    parameters: Mapping[str, str],
) -> str:
    """Render a page as HTML without references to other files or hosts, except links to the runs.

    Args:
        title: of the page, in words.
        about: what it is about, in a line below the title.
        opening: the first screen.
        parts: below it, from top to bottom.
        runs: listed below them.
        config: the parameters that were asked for.
        parameters: name of a parameter -> its meaning.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        title=title,
        about=[each for each in about if each],
        opening=opening,
        parts=[*parts, _runs(runs), _parameters(config, parameters)],
        policy=_POLICY,
        plotly=_PLOTLY,
        library=Markup(get_plotlyjs()),  # noqa: S704  (plotly's own)
    )


def _runs(runs: Sequence[RunLink]) -> Table:
    frame = pd.DataFrame({"stage": [each.stage for each in runs], "run": [each.run_id for each in runs]})
    links = {each.run_id: each.url for each in runs if each.url}
    return Table("Runs", "The MLflow runs that the page is made from, in the order in which data flowed.", frame, links)


def _parameters(config: Mapping[str, object], parameters: Mapping[str, str]) -> Table:
    rows = [(name, _shown(value), parameters.get(name, "")) for name, value in config.items()]
    frame = pd.DataFrame(rows, columns=["parameter", "value", "meaning"], dtype="str")
    return Table(
        "Parameters", "Every parameter with the value that was used; an empty one was left to its default.", frame
    )


def _shown(value: object) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "") or "0")
    except ValueError:
        return False
    return True


def _csv_uri(content: bytes) -> str:
    return f"data:text/csv;base64,{base64.b64encode(content).decode()}"
