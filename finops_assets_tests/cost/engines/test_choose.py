"""Which engine does the work: the setting, what is said where it cannot, and files that another one wrote."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finops_assets.base.errors import ConfigError, FinopsError, Mistake
from finops_assets.cost.engines import choose
from finops_assets.cost.engines.choose import engine_of
from finops_assets.definitions import build_definitions
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


@pytest.mark.parametrize(
    ("place", "kind", "lake"),
    [
        ("clickhouse://clickhouse:8123/finops", "clickhouse", "lake"),
        ("clickhouse://loader@10.0.0.5:8443/finops?secure=true", "clickhouse", "s3://company/lake"),
        ("bigquery://company-billing/finops", "bigquery", "{uri: gs://company/lake}"),
        ("snowflake://finops/finops.public.lake", "snowflake", "s3://company/lake"),
    ],
)
def test_so_it_does_with_engines_that_have_tables(tmp_path: Path, place: str, kind: str, lake: str) -> None:
    engine = parse_settings(settings_with(place, lake), tmp_path / "finops.yaml").engine
    assert engine.kind == kind
    assert engine.place.lower() == f"{kind} on {place}".lower()


@pytest.mark.parametrize(
    "place",
    ["spark://host", "spark:7077", "local[two]", "duckdb", "clickhouse://host/finops", "bigquery://p", "snowflake://c"],
)
def test_any_other_place_is_a_mistake_in_the_settings(tmp_path: Path, place: str) -> None:
    mistake = mistake_of(tmp_path, settings_with(place, "gs://company/lake"))
    assert mistake.line == 6
    assert "allowed: a Spark master, as spark://host:7077, local[2]" in mistake.message
    assert "clickhouse://user@host:port/database" in mistake.message


@pytest.mark.parametrize("place", ["spark://user:word@host:7077", "clickhouse://user:word@host:8123/finops"])
def test_a_password_in_it_is_a_mistake_and_is_not_shown(tmp_path: Path, place: str) -> None:
    assert "word@" not in mistake_of(tmp_path, settings_with(place, "lake")).message


@pytest.mark.parametrize(
    ("place", "lake", "said"),
    [
        ("bigquery://p/finops", "lake", "BigQuery loads days from Google Cloud Storage only: allowed: lake: gs://"),
        ("bigquery://p/finops", "{uri: s3://company/lake}", "BigQuery loads days from Google Cloud Storage only"),
        (
            "snowflake://finops/lake",
            "lake",
            "Snowflake copies days from a stage on the lake's bucket: allowed: a lake in",
        ),
    ],
)
def test_a_lake_that_an_engine_cannot_read_is_said_when_the_settings_are(
    tmp_path: Path, place: str, lake: str, said: str
) -> None:
    assert said in mistake_of(tmp_path, settings_with(place, lake)).message


def settings_with(place: str, lake: str) -> str:
    return (
        f"first_day: 2026-09-01\nlake: {lake}\nwarehouse: w\npublished: p\nengine:\n  run_on: {place}\n"
        "sources: [{name: aws, uri: exports, layout: files}]\ndimensions: {team: {keys: [team]}}\n"
    )


def mistake_of(folder: Path, text: str) -> Mistake:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, folder / "finops.yaml")
    [mistake] = caught.value.mistakes
    assert mistake.path == "engine.run_on"
    return mistake


@pytest.mark.parametrize(
    ("place", "extra"),
    [
        ("local[2]", "spark"),
        ("clickhouse://c:8123/f", "clickhouse"),
        ("bigquery://p/f", "bigquery"),
        ("snowflake://c/s", "snowflake"),
    ],
)
def test_without_the_extra_it_is_said_how_to_get_it_before_a_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, extra: str
) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda _: None)
    bounds = EngineSettings(run_on=place)
    said = rf"is '{re.escape(place)}', which needs the extra {extra} .*.venv/bin/uv pip install -e '\.\[{extra}\]'"
    with pytest.raises(FinopsError, match=said):
        engine_of(bounds, Lake(tmp_path))
    settings = settings_for(tmp_path, DAY).model_copy(update={"engine": bounds})
    with pytest.raises(FinopsError, match=said):
        build_definitions(settings)


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
