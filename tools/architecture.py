"""The picture of docs/architecture.md, made from the code: python -m tools.architecture"""

from __future__ import annotations

import tomllib

import grimp

from tools.results import ROOT

PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: written by python -m tools.architecture -->", "<!-- end of rooms -->"
PACKAGE = "finops_assets"


def layers() -> list[list[str]]:
    """The rooms from the outermost layer to the innermost, as pyproject.toml has them checked."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    [contract] = [c for c in told["contracts"] if c["type"] == "layers"]
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def arrows(graph: grimp.ImportGraph) -> set[tuple[str, str]]:
    """Which room knows which."""
    found = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            room, known = (".".join(name.split(".")[1:2]) for name in (module, imported))
            if room and known and room != known:
                found.add((room, known))
    return found


def picture() -> str:
    """Mermaid: a box a room, and an arrow to each room that it knows, unless it knows it through another, too."""
    graph = grimp.build_graph(PACKAGE)
    known = arrows(graph)
    order = [room for layer in layers() for room in layer]
    lines = ["```mermaid", "flowchart TB"]
    for room in order:
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
