"""Write the files: `python -m tools.integrations`."""

from __future__ import annotations

from tools.integrations import dbt_sources

if __name__ == "__main__":
    dbt_sources.FILE.write_text(dbt_sources.sources(), encoding="utf-8")
