"""deploy/superset as a file that Superset imports: `python -m tools.integrations.superset_bundle ADDRESS OUT.zip`.

ADDRESS is SQLAlchemy's of the published copy (duckdb:////home/me/.finops/finops.duckdb?access_mode=read_only), or of the copy
that `finops publish --to` keeps (postgresql://bi_reader@host/bi?options=-csearch_path%3Dfinops).
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "superset"


def bundle(address: str, target: Path) -> None:
    """Write the zip, with this address of the database.

    Raises:
        ValueError: the address is of no database that has a copy, or may write.
    """
    file = address.startswith("duckdb:///")
    if not file and not address.startswith("postgresql"):
        raise ValueError(f"found {address.partition(':')[0]}:…; it is duckdb:////path or postgresql://…")
    if file and "access_mode=read_only" not in address:
        raise ValueError("the published copy is opened with ?access_mode=read_only, or nothing can take its place")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as written:
        for path in sorted(FOLDER.rglob("*.yaml")):
            name = path.relative_to(FOLDER)
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            if name.parts[0] == "databases":
                content["sqlalchemy_uri"] = address
            if name.parts[0] == "datasets" and not file:
                content["sql"] = content["sql"].replace("FROM reports.", "FROM reports_")
            written.writestr(f"finops_overview/{name.as_posix()}", yaml.safe_dump(content, sort_keys=False))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        bundle(sys.argv[1], Path(sys.argv[2]))
    except ValueError as error:
        sys.exit(f"error: {error}")
