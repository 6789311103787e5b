"""A graph as an SVG picture: boxes in rows by depth, lines from a step to those that need it. No script, no links."""

from __future__ import annotations

from collections.abc import Sequence

from cupola.text import cells, cut, escape_html, printable

LETTER, HEIGHT, GAP_X, GAP_Y, MARGIN, NAME_CELLS = 8, 34, 24, 46, 16, 40
COLOURS = {"completed": "#2e7d32", "cached": "#1565c0", "failed": "#c62828", "lost": "#c62828", "running": "#ef6c00"}


def draw_svg(title: str, names: Sequence[str], needs: Sequence[Sequence[int]], states: Sequence[str] | None) -> str:
    """Return a picture of a graph.

    Args:
        title: What the picture is of.
        names: Name of each box.
        needs: Positions of the boxes that each one needs, all before it.
        states: State of each box, which colours its border.
    """
    labels = [cut(printable(name), NAME_CELLS) for name in names]
    boxes, width, height = _lay_out(labels, needs)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace" font-size="13">',
        f"<title>{escape_html(printable(title))}</title>",
    ]
    parts += [_line(boxes[source], boxes[position]) for position, found in enumerate(needs) for source in found]
    for position, (x, y, box_width) in enumerate(boxes):
        colour = COLOURS.get(states[position], "#888") if states else "#555"
        parts.append(
            f'<rect x="{x}" y="{y}" width="{box_width}" height="{HEIGHT}" rx="5" fill="#fff" stroke="{colour}" '
            f'stroke-width="1.5"/><text x="{x + box_width // 2}" y="{y + 21}" text-anchor="middle">'
            f"{escape_html(labels[position])}</text>"
        )
    return "\n".join([*parts, "</svg>"])


def _lay_out(labels: Sequence[str], needs: Sequence[Sequence[int]]) -> tuple[list[tuple[int, int, int]], int, int]:
    """Return left, top and width of each box, and the size of the picture."""
    depths: list[int] = []
    for found in needs:
        depths.append(max((depths[source] + 1 for source in found), default=0))
    right: dict[int, int] = {}
    boxes: list[tuple[int, int, int]] = []
    for label, depth in zip(labels, depths, strict=True):
        width = max(60, cells(label) * LETTER + 20)
        x = right.get(depth, MARGIN)
        right[depth] = x + width + GAP_X
        boxes.append((x, MARGIN + depth * (HEIGHT + GAP_Y), width))
    full = max(right.values(), default=MARGIN + GAP_X) - GAP_X + MARGIN
    # Each row is centred, so that a chain stands in the middle of what it fans out to.
    shift = {depth: (full - MARGIN + GAP_X - end) // 2 for depth, end in right.items()}
    placed = [(x + shift[depth], y, width) for (x, y, width), depth in zip(boxes, depths, strict=True)]
    return placed, full, 2 * MARGIN + (max(depths, default=0) + 1) * (HEIGHT + GAP_Y) - GAP_Y


def _line(source: tuple[int, int, int], target: tuple[int, int, int]) -> str:
    x1, y1 = source[0] + source[2] // 2, source[1] + HEIGHT
    x2, y2 = target[0] + target[2] // 2, target[1]
    middle = (y1 + y2) // 2
    return f'<path d="M{x1} {y1} C{x1} {middle} {x2} {middle} {x2} {y2}" fill="none" stroke="#aaa"/>'
