"""Objects in notebooks: a line of text and a table."""

import html

import pandas as pd


def as_html(text: str, table: pd.DataFrame, *, index: bool = False) -> str:
    """Return a text, its lines kept, above a table."""
    lines = "<br>".join(map(html.escape, text.splitlines()))
    return f"<p>{lines}</p>{table.to_html(index=index, border=0, na_rep='')}"
