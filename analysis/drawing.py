"""A small SVG drawing, legible on light and on dark pages.

It has a ground of its own, which follows the reader's colour scheme together with its ink. So it is legible on any page.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; text-anchor: middle }
.left { text-anchor: start } .bold { font-weight: 600 } .small { font-size: 11.5px } .faint { fill: #57606a }
.ground { fill: #ffffff } .line { stroke: #57606a; fill: none; stroke-width: 1.3 } .head { fill: #57606a }
.dashed { stroke-dasharray: 4 3 } .strong { stroke-width: 2.4 }
.plain { fill: #f0f2f5; stroke: #8b949e } .blue { fill: #d8e7ff; stroke: #2563eb } .orange { fill: #ffe3cc; stroke: #c2570c }
.green { fill: #d6f2df; stroke: #15803d } .gone { fill: none; stroke: #8b949e; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .faint { fill: #aab4bf } .ground { fill: #161b22 } .line { stroke: #aab4bf } .head { fill: #aab4bf }
.plain { fill: #262c34; stroke: #8b949e } .blue { fill: #163a6b; stroke: #6ea8ff } .orange { fill: #5a2f10; stroke: #f0a060 }
.green { fill: #144a28; stroke: #57c27a } .gone { stroke: #8b949e }
}
"""


class Drawing:
    """Shapes and words on a ground, in pixels from the top left corner.

    A kind names the looks of a shape: `plain`, `blue`, `orange`, `green`, or `gone`, a dashed outline.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        """Take the size, and what the drawing shows, in words for those who do not see it."""
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"',
            'role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path class="head" d="M0 0 L8 4 L0 8 z"/></marker></defs>',
            f'<rect class="ground" width="{width}" height="{height}" rx="8"/>',
        ]

    def box(self, x: float, y: float, width: float, height: float, words: str = "", kind: str = "plain") -> None:
        """Draw a rectangle with words in its middle, a line each."""
        self._parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3"/>')
        lines = words.split("\n") if words else []
        top = y + height / 2 + 4.5 - 8 * (len(lines) - 1)
        for number, line in enumerate(lines):
            self.words(x + width / 2, top + 16 * number, line)

    def words(self, x: float, y: float, words: str, look: str = "") -> None:
        """Write a line whose middle is at x; looks: `left` (it begins there), `bold`, `small`, `faint`."""
        self._parts.append(f'<text class="{look}" x="{x:g}" y="{y:g}">{escape(words)}</text>')

    def arrow(self, *points: tuple[float, float]) -> None:
        """Draw a line through points that ends in an arrow head."""
        self._path(points, 'marker-end="url(#head)"')

    def line(self, *points: tuple[float, float], look: str = "") -> None:
        """Draw a line through points; looks: `dashed`, `strong`."""
        self._path(points, "", look)

    def dot(self, x: float, y: float, radius: float, words: str = "", kind: str = "plain") -> None:
        """Draw a disc with a word in its middle."""
        self._parts.append(f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>')
        if words:
            self.words(x, y + 4.5, words)

    def save(self, path: Path) -> None:
        """Write the drawing to a file."""
        path.write_text("\n".join([*self._parts, "</svg>\n"]), encoding="utf-8")

    def _path(self, points: Sequence[tuple[float, float]], end: str, look: str = "") -> None:
        steps = " L".join(f"{x:g} {y:g}" for x, y in points)
        self._parts.append(f'<path class="line {look}" d="M{steps}" {end}/>')
