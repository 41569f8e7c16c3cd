"""docs/guides/owners.svg: precision at coverage, and what confidence was worth. Written by hand: no plotting library."""

from __future__ import annotations

from typing import Any

SIZE, LEFT, TOP, GAP = 240, 48, 40, 90
COLOURS = {
    "ours, other tags kept": "#0b6e4f",
    "ours, all tags hidden": "#2f6fed",
    "naive Bayes": "#c77700",
    "account majority": "#b3261e",
}
SHOWN = (("sample", "business_unit"), ("estate", "team"), ("company", "team"))


def picture(results: dict[str, Any]) -> str:
    """One row a data set: precision at coverage on the left, reliability on the right; hidden at random."""
    shown = [(name, d) for name, d in SHOWN if name in results["data"]]
    height = TOP + len(shown) * (SIZE + GAP)
    width = LEFT + 2 * (SIZE + GAP) + 170
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for i, (method, colour) in enumerate(COLOURS.items()):
        x = LEFT + 2 * (SIZE + GAP) - 20
        parts.append(
            f'<line x1="{x}" y1="{TOP + 8 + i * 20}" x2="{x + 22}" y2="{TOP + 8 + i * 20}" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(f'<text x="{x + 28}" y="{TOP + 12 + i * 20}">{method}</text>')
    for row, (name, dimension) in enumerate(shown):
        methods = results["data"][name]["dimensions"][dimension]["splits"]["random"]
        y = TOP + row * (SIZE + GAP)
        left, right = LEFT, LEFT + SIZE + GAP
        parts += _frame(left, y, f"{name}, {dimension}: precision at coverage", "coverage")
        parts += _frame(right, y, "came true, by confidence", "confidence")
        parts.append(f'<line x1="{right}" y1="{y + SIZE}" x2="{right + SIZE}" y2="{y}" stroke="#bbbbbb"/>')
        for method, figures in methods.items():
            points = [(float(c), p) for c, p in figures["precision_at"].items() if p is not None]
            parts.append(_line(left, y, points, COLOURS[method]))
            for b in figures.get("reliability", ()):
                radius = 2 + min(6.0, b["resources"] ** 0.5 / 8)
                parts.append(
                    f'<circle cx="{right + SIZE * b["confidence"]:.1f}" cy="{y + SIZE * (1 - b["right"]):.1f}"'
                    f' r="{radius:.1f}" fill="{COLOURS[method]}" fill-opacity="0.7"/>'
                )
    return "\n".join([*parts, "</svg>", ""])


def _frame(x: int, y: int, title: str, below: str) -> list[str]:
    parts = [
        f'<rect x="{x}" y="{y}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#888888"/>',
        f'<text x="{x}" y="{y - 8}" font-weight="bold">{title}</text>',
        f'<text x="{x + SIZE / 2}" y="{y + SIZE + 32}" text-anchor="middle">{below}</text>',
    ]
    for tenth in (0, 5, 10):
        at = SIZE * tenth / 10
        parts.append(f'<text x="{x + at}" y="{y + SIZE + 16}" text-anchor="middle">{tenth / 10:g}</text>')
        parts.append(f'<text x="{x - 6}" y="{y + SIZE - at + 4}" text-anchor="end">{tenth / 10:g}</text>')
    return parts


def _line(x: int, y: int, points: list[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x + SIZE * a:.1f},{y + SIZE * (1 - b):.1f}" for a, b in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
