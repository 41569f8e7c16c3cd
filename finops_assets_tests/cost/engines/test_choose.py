"""Which engine does the work: the setting, what is said where it cannot, and files that another one wrote."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finops_assets.base.errors import ConfigError, FinopsError
from finops_assets.cost.engines.choose import engine_of
from finops_assets.judge.gates.facts import judge_facts
from finops_assets.judge.gates.rollup import UNIQUE, judge_rollup
from finops_assets.settings.engine import EngineSettings
from finops_assets.settings.load import parse_settings
from finops_assets.storage.day_files import SPARK_COLUMNS, facts_rules
from finops_assets.storage.lake import Lake
from finops_assets_tests.conftest import Site, focus_row
from finops_assets_tests.running import settings_for

DAY = date(2026, 9, 1)


@pytest.mark.parametrize(
    "place",
    ["spark://10.0.0.5:7077", "spark://a:7077,b:7077", "local", "local[2]", "local[*]", "yarn", "k8s://https://c:443"],
)
def test_one_line_names_the_engine(tmp_path: Path, place: str) -> None:
    engine = settings_for(tmp_path, DAY, f"engine: {{run_on: '{place}'}}").engine
    assert engine.run_on == place
    assert engine.place == f"Spark on {place}"


@pytest.mark.parametrize("place", ["spark://host", "spark:7077", "local[two]", "duckdb", "spark://user:word@host:7077"])
def test_any_other_place_is_a_mistake_in_the_settings(tmp_path: Path, place: str) -> None:
    text = f"first_day: 2026-09-01\nlake: l\nwarehouse: w\npublished: p\nengine:\n  run_on: {place}\n"
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, tmp_path / "finops.yaml")
    [mistake] = [m for m in caught.value.mistakes if m.path == "engine.run_on"]
    assert mistake.line == 6
    assert "allowed: a Spark master, as spark://host:7077, local[2]" in mistake.message


def test_without_the_extra_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "finops_assets.cost.engines.spark", None)
    with pytest.raises(
        FinopsError, match=r"is 'local\[2\]', which needs the extra spark .*.venv/bin/uv pip install -e '\.\[spark\]'"
    ):
        engine_of(EngineSettings(run_on="local[2]"), Lake(tmp_path))


def test_without_the_line_duckdb_does_the_work_and_the_verdicts_say_so(site: Site) -> None:
    site.put_csv("a.csv", focus_row())
    site.run_all("2026-09-01")
    assert all(v.engine.startswith("DuckDB 2.") for v in judge_facts(site.platform, site.platform.keys([DAY])))
    told = {v.gate: v.engine[:7] for v in judge_rollup(site.platform, [DAY])}
    assert told == {"conserved": "DuckDB ", "accrual_conserved": "DuckDB ", UNIQUE: ""}, "the key is the warehouse's"


def test_a_file_that_spark_wrote_says_what_it_was_built_from(tmp_path: Path) -> None:
    """Spark keeps what it is told with a column, for all days that it wrote together."""
    stamps = json.dumps({"aws 2026-09-01": "abc 1", "aws 2026-09-02": "def 2"})
    fields = [{"name": "a", "metadata": {}}, {"name": "b", "metadata": {"finops_stamps": stamps}}]
    table = pa.table({"a": [1]}).replace_schema_metadata({SPARK_COLUMNS: json.dumps({"fields": fields})})
    lake = Lake(tmp_path)
    for day, expected in ((1, "abc"), (2, "def"), (3, None)):
        file = lake.day_file("facts", "aws", date(2026, 9, day))
        file.parent.mkdir(parents=True)
        pq.write_table(table, file)
        assert facts_rules(file) == expected
