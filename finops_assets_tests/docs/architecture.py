"""The picture of docs/architecture.md, made from the code: python -m finops_assets_tests.docs.architecture"""

from __future__ import annotations

import tomllib
from collections import Counter

import grimp

from finops_assets_tests.places import PROJECT

PAGE = PROJECT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: written by python -m finops_assets_tests.docs.architecture -->", "<!-- end of rooms -->"
PACKAGE = "finops_assets"


def layers() -> list[list[str]]:
    """The rooms from the outermost layer to the innermost, as pyproject.toml has them checked."""
    told = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    [contract] = [c for c in told["contracts"] if c["type"] == "layers"]
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def arrows() -> Counter[tuple[str, str]]:
    """How many imports lead from one room to another."""
    graph = grimp.build_graph(PACKAGE)
    counted: Counter[tuple[str, str]] = Counter()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            rooms = tuple(".".join(name.split(".")[1:2]) for name in (module, imported))
            if all(rooms) and rooms[0] != rooms[1]:
                counted[rooms[0], rooms[1]] += 1
    return counted


def picture() -> str:
    """Mermaid: a box a room, and an arrow where it knows one of the three next layers below that it knows."""
    order = [room for layer in layers() for room in layer]
    known = arrows()
    graph = grimp.build_graph(PACKAGE)
    lines = ["```mermaid", "flowchart TB"]
    for layer in layers():
        for room in layer:
            files = len(graph.find_descendants(f"{PACKAGE}.{room}")) or 1
            lines.append(f'  {room}["{room}<br/>{files} {"files" if files > 1 else "file"}"]')
    for room in order:
        below = [other for other in order if (room, other) in known]
        # What a room's neighbours know anyway would only hide the order.
        direct = [o for o in below if not any((via, o) in known for via in below if via != o)]
        lines += [f"  {room} --> {other}" for other in direct]
    return "\n".join([*lines, "```"])


def with_picture(text: str) -> str:
    """The page with the picture as the code is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{picture()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_picture(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
