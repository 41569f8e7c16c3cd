"""The adapter for Snowflake on fakesnow, an emulation: statements rendered for Snowflake, run by DuckDB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlglot
from sqlglot import exp

from finops_assets.base.errors import FinopsError
from finops_assets.cost.attribution.tag_sets import attribution
from finops_assets.cost.engines.elsewhere import write_facts
from finops_assets.cost.engines.mirror import Mirror
from finops_assets.cost.engines.snowflake import Snowflake
from finops_assets.platform import Platform
from finops_assets.storage.day_files import facts_relation
from finops_assets_tests.cost.engines.conftest import DAYS, Expected, facts_rows, ordered

if not os.environ.get("FINOPS_TEST_ENGINES"):
    pytest.skip("slow: make test-engines", allow_module_level=True)
PYTHON = Path(sys.prefix) / "fakesnow" / "bin" / "python"
if not PYTHON.is_file():
    pytest.skip("fakesnow is not there: make test-engines", allow_module_level=True)


class Refused(Exception):
    """What fakesnow said, as the connector raises it."""

    __module__ = "snowflake.connector.errors"


class Connection:
    """As much of a connection, and of a cursor, as the adapter asks for, with fakesnow at its other end."""

    def __init__(self, lake: Path, out: Path) -> None:
        self.out = out
        self.asked: list[str] = []
        command = [str(PYTHON), "-W", "ignore", str(Path(__file__).with_name("fakesnow_child.py")), str(lake), str(out)]
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def cursor(self) -> Connection:
        return self

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def execute(self, sql: str, rows: list[tuple[Any, ...]] | None = None) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.asked.append(sql)
        self.out.unlink(missing_ok=True)
        self.child.stdin.write(json.dumps({"sql": sql, "rows": rows}) + "\n")
        self.child.stdin.flush()
        while not (line := self.child.stdout.readline()).startswith("\x1e"):
            assert line, "fakesnow ended"
        if error := json.loads(line[1:]).get("error"):
            raise Refused(f"{error} in {sql[:2000]}")

    executemany = execute

    def fetch_arrow_all(self, force_return_table: bool) -> pa.Table:
        assert force_return_table
        with pa.OSFile(str(self.out)) as file:
            return pa.ipc.open_file(file).read_all()

    def fetch_arrow_batches(self) -> Iterator[pa.Table]:
        yield self.fetch_arrow_all(force_return_table=True)

    def close(self) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.close()
        self.child.wait(20)
        self.child.stdout.close()


@pytest.fixture
def platform(expected: Expected, tmp_path: Path) -> Platform:
    return expected.copied_to(tmp_path / "platform")


@pytest.fixture
def connection(platform: Platform, tmp_path: Path) -> Iterator[Connection]:
    made = Connection(platform.lake.root, tmp_path / "answer.arrow")
    yield made
    made.close()


def test_fakesnow_gives_what_duckdb_gives(connection: Connection, expected: Expected, platform: Platform) -> None:
    engine = Mirror(Snowflake(connection, "lake"), platform.lake)
    expected.reached_by(engine, platform)
    with duckdb.connect() as opened:
        files = platform.lake.day_files("facts", platform.source_names, DAYS)
        assert facts_rows(opened, facts_relation(files)) == expected.facts, "they came back to the lake, too"
    view = engine.show("facts", expected.keys)
    names = sorted(engine.table(f'SELECT * FROM "{view}" LIMIT 0').column_names)
    found = engine.table(f'SELECT {", ".join(f"{chr(34)}{name}{chr(34)}" for name in names)} FROM "{view}"')
    assert ordered(tuple(row.values()) for row in found.to_pylist()) == expected.facts
    engine.forget(view)
    trees = [sqlglot.parse_one(sql.replace("%s", "NULL"), read="snowflake") for sql in connection.asked]
    copies = [tree for tree in trees if isinstance(tree, exp.Copy)]
    assert len(copies) >= len(expected.keys), "fakesnow was not shown these: they are only read again"
    [facts, *_] = [t for t in trees if isinstance(t, exp.Create) and '"cloud_cost_facts"' in t.this.sql("snowflake")]
    assert 'CLUSTER BY ("charge_date", "source")' in facts.sql("snowflake")


def test_a_day_that_fails_keeps_its_facts(connection: Connection, platform: Platform) -> None:
    p, key = platform, ("aws", DAYS[0])
    engine = Mirror(Snowflake(connection, "lake"), p.lake)
    held = 'SELECT count(*) AS "n" FROM "cloud_cost_facts_waiting"'
    write_facts(engine, p.lake, p.rules, attribution(p.lake, p.rules, p.source_names), {key: "stamp"})
    before = engine.table(held).to_pylist()
    with pytest.raises(FinopsError, match=r"Snowflake: .*no_such_table.*Nothing was replaced by halves"):
        engine.replace_facts({key: "stamp"}, p.rules, 'SELECT * FROM "no_such_table"')
    assert before[0]["n"]
    assert engine.table(held).to_pylist() == before
