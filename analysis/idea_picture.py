"""The picture of the idea in README.md and on the site, for light and dark pages.

python -m analysis.idea_picture

The script writes docs/pictures/idea_light.svg and docs/pictures/idea_dark.svg.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs/pictures"


class Theme(NamedTuple):
    """Colours of one of the two pictures; `first` and `second` are those of the two groups of classes."""

    text: str
    muted: str
    line: str
    first: str
    second: str


THEMES = {
    "light": Theme("#1f2328", "#59636e", "#afb8c1", "#0969da", "#bc4c00"),
    "dark": Theme("#f0f6fc", "#9198a1", "#525a64", "#4493f8", "#f0883e"),
}
CLASSES = ("cat", "dog", "car", "ship")
# Layer -> who uses each of its channels: the first group (a), the second (b), both (x) or none (-).
LAYERS = ("xaxbx", "a-bxab-b", "ab-bxa-b")
# The activity of the channels of the second layer: one row a class, in tenths.
ACTIVITY = ((8, 1, 0, 7, 9, 1, 0, 1), (9, 0, 1, 6, 7, 0, 1, 0), (1, 0, 9, 6, 0, 8, 1, 7), (0, 1, 7, 8, 1, 9, 0, 9))
ANSWER = (0.03, 0.02, 0.06, 0.89)
SIDE, STEP, COLUMN = 12, 17, 40
MIDDLE = 168


def main() -> None:
    """Write both pictures."""
    PICTURES.mkdir(exist_ok=True)
    for name, theme in THEMES.items():
        (PICTURES / f"idea_{name}.svg").write_text(drawn(theme), encoding="utf-8")


def drawn(theme: Theme) -> str:
    """Return the picture in the colours of a theme, as SVG."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 310" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="14">',
        "<title>From a network to an ensemble</title>",
        "<desc>Statistics of a trained network show which channels each class uses. Each member keeps the channels of its "
        "classes. All members answer one image at once, and their outputs are combined.</desc>",
        *_base_model(theme),
        *_statistics(theme),
        *_members(theme),
        *_ensemble(theme),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _base_model(theme: Theme) -> list[str]:
    return [
        *_heading(theme, 0, "1  Network", "trained, all classes"),
        *_network(theme, 24, MIDDLE, LAYERS),
        *_arrow(theme, 150, MIDDLE, 186),
        *_legend(theme),
    ]


def _legend(theme: Theme) -> list[str]:
    entries = (("a", "used by cat, dog"), ("b", "by car, ship"), ("x", "by both"), ("-", "by none"))
    parts = []
    for (kind, words), left in zip(entries, (0, 142, 252, 328), strict=True):
        parts += [*_channel(theme, kind, left, 284), _text(left + 18, 295, words, theme.muted, size=12)]
    return [_text(0, 272, "channels", theme.muted, size=12), *parts]


def _statistics(theme: Theme) -> list[str]:
    left, top = 244, MIDDLE - 42
    parts = _heading(theme, 200, "2  Statistics", "which class uses which channel?")
    for row, (name, levels) in enumerate(zip(CLASSES, ACTIVITY, strict=True)):
        y = top + row * 22
        parts.append(_text(left - 8, y + 13, name, theme.text, anchor="end"))
        parts += [
            f'<rect x="{left + number * 18}" y="{y}" width="16" height="18" rx="2" '
            f'fill="{_group_colour(theme, row)}" fill-opacity="{max(level / 10, 0.06):.2f}"/>'
            for number, level in enumerate(levels)
        ]
    return [*parts, *_arrow(theme, 402, MIDDLE, 438)]


def _members(theme: Theme) -> list[str]:
    left, parts = 470, _heading(theme, 460, "3  Members", "keep their channels, are retrained")
    for group, (middle, words) in {"a": (110, "cat, dog"), "b": (210, "car, ship")}.items():
        kept = [[kind if kind != "x" else group for kind in layer if kind in ("x", group)] for layer in LAYERS]
        parts += [*_network(theme, left, middle, kept), _text(left + 108, middle + 5, words, theme.text)]
    return [*parts, *_arrow(theme, 660, MIDDLE, 696)]


def _ensemble(theme: Theme) -> list[str]:
    parts = [*_heading(theme, 714, "4  Ensemble", "one image, all members at once"), *_ship(theme, 714, MIDDLE - 18)]
    for row, middle in enumerate((120, 216)):
        colour = _group_colour(theme, 2 * row)
        parts += [
            _line(theme, 752, MIDDLE, 770, middle),
            f'<rect x="772" y="{middle - 24}" width="84" height="48" rx="6" fill="{colour}" fill-opacity="0.12" '
            f'stroke="{colour}"/>',
            _text(814, middle - 3, "member", theme.text, anchor="middle"),
            _text(814, middle + 14, f"core {row + 1}", theme.muted, anchor="middle", size=12),
            _line(theme, 856, middle, 872, MIDDLE),
        ]
    for row, (name, share) in enumerate(zip(CLASSES, ANSWER, strict=True)):
        y = MIDDLE - 40 + row * 22
        parts += [
            _text(908, y + 12, name, theme.text, anchor="end", bold=share == max(ANSWER)),
            f'<rect x="914" y="{y}" width="{60 * share:.1f}" height="14" rx="2" fill="{_group_colour(theme, row)}"/>',
        ]
    return parts


def _group_colour(theme: Theme, row: int) -> str:
    """Return the colour of the group that the class of a row belongs to."""
    return theme.first if row < 2 else theme.second


def _heading(theme: Theme, left: int, title: str, words: str) -> list[str]:
    return [_text(left, 22, title, theme.text, bold=True, size=16), _text(left, 44, words, theme.muted, size=13)]


def _network(theme: Theme, left: int, middle: int, layers: Sequence[Sequence[str]]) -> list[str]:
    """Return layers of channels side by side, with a line between each two channels of neighbouring layers."""
    tops = [middle - (STEP * len(layer) - STEP + SIDE) / 2 for layer in layers]
    centres = [
        [top + number * STEP + SIDE / 2 for number in range(len(layer))]
        for top, layer in zip(tops, layers, strict=True)
    ]
    lines = [
        f"M{left + number * COLUMN + SIDE} {start:g}L{left + (number + 1) * COLUMN} {end:g}"
        for number, (before, after) in enumerate(pairwise(centres))
        for start in before
        for end in after
    ]
    parts = [f'<path d="{"".join(lines)}" stroke="{theme.line}" stroke-width="0.6" fill="none"/>']
    for number, (top, layer) in enumerate(zip(tops, layers, strict=True)):
        for row, kind in enumerate(layer):
            parts += _channel(theme, kind, left + number * COLUMN, top + row * STEP)
    return parts


def _channel(theme: Theme, kind: str, left: float, top: float) -> list[str]:
    if kind == "-":
        return [
            f'<rect x="{left + 0.75:g}" y="{top + 0.75:g}" width="{SIDE - 1.5}" height="{SIDE - 1.5}" rx="2" fill="none" '
            f'stroke="{theme.muted}" stroke-width="1.5"/>'
        ]
    colours = {"a": (theme.first,), "b": (theme.second,), "x": (theme.first, theme.second)}[kind]
    width = SIDE / len(colours)
    return [
        f'<rect x="{left + number * width:g}" y="{top:g}" width="{width:g}" height="{SIDE}" fill="{colour}"/>'
        for number, colour in enumerate(colours)
    ]


def _ship(theme: Theme, left: int, top: int) -> list[str]:
    return [
        f'<rect x="{left}" y="{top}" width="36" height="36" rx="4" fill="none" stroke="{theme.muted}" stroke-width="1.5"/>',
        f'<path d="M{left + 6} {top + 23}h24l-5 8h-14z M{left + 17} {top + 6}v14h-8z M{left + 20} {top + 9}v11h8z" '
        f'fill="{theme.muted}"/>',
    ]


def _arrow(theme: Theme, left: int, y: int, right: int) -> list[str]:
    return [
        f'<path d="M{left} {y}H{right - 6}" stroke="{theme.muted}" stroke-width="2"/>',
        f'<path d="M{right} {y}l-9 -5v10z" fill="{theme.muted}"/>',
    ]


def _line(theme: Theme, left: int, top: int, right: int, bottom: int) -> str:
    return f'<path d="M{left} {top}L{right} {bottom}" stroke="{theme.muted}" stroke-width="1.5"/>'


def _text(
    x: float, y: float, words: str, colour: str, *, anchor: str = "start", bold: bool = False, size: int = 14
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size}" text-anchor="{anchor}"{weight}>{words}</text>'


if __name__ == "__main__":
    main()
