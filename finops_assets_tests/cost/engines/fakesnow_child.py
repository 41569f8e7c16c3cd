"""fakesnow in a Python of its own, for it wants another sqlglot than ours: a statement a line in, an Arrow file out.

fakesnow is no Snowflake: it renders statements for DuckDB. What it does not know is done here: COPY from a stage, and sums,
which it would make doubles of.
"""

import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import fakesnow
import pyarrow as pa
import snowflake.connector
import sqlglot
from sqlglot import exp

COPY = re.compile(r"COPY INTO (\S+) \((.*?)\) FROM \(SELECT .* FROM @lake/(\S+)\) FILE_FORMAT = .*", re.DOTALL)
MONEY = exp.DataType.build("DECIMAL(38, 18)")


def exact(sql: str) -> str:
    """Sums of what they were: fakesnow leaves a cast alone."""
    tree = sqlglot.parse_one(sql, read="snowflake")
    for found in list(tree.find_all(exp.Sum)):
        case = found.this
        given = (
            [*(i.args["true"] for i in case.args["ifs"]), case.args.get("default")]
            if isinstance(case, exp.Case)
            else []
        )
        counts = bool(given) and all(isinstance(g, exp.Literal) and g.is_int for g in given)
        found.set("this", exp.Cast(this=found.this, to=exp.DataType.build("BIGINT") if counts else MONEY.copy()))
    return tree.sql("snowflake")


def run(connection: Any, lake: Path, asked: dict[str, Any]) -> pa.Table | None:
    sql, rows = asked["sql"], asked["rows"]
    cursor = connection.cursor()
    if copied := COPY.fullmatch(sql):
        table, names, file = copied.groups()
        placed = dict(part.split("=") for part in file.split("/") if "=" in part)
        own = ", ".join(name for name in names.split(", ") if name.strip('"') not in placed)
        connection._duck_conn.execute(
            f"INSERT INTO {table} BY NAME SELECT {own}, '{placed['source']}' AS source,"
            f" DATE '{placed['charge_date']}' AS charge_date FROM read_parquet('{lake / file}', hive_partitioning = false)"
        )
        return None
    if rows is not None:
        cursor.executemany(sql, [tuple(row) for row in rows])
        return None
    cursor.execute(exact(sql) if "SUM(" in sql else sql)
    found: pa.Table | None = cursor._arrow_table
    return found


def main(lake: Path, out: Path) -> None:
    warnings.simplefilter("ignore")
    with fakesnow.patch():
        connection = snowflake.connector.connect(database="finops", schema="public")
        for line in sys.stdin:
            try:
                found = run(connection, lake, json.loads(line))
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            else:
                answer = {}
                if found is not None:
                    with pa.OSFile(str(out), "wb") as file, pa.ipc.new_file(file, found.schema) as writer:
                        writer.write_table(found)
            print("\x1e" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
