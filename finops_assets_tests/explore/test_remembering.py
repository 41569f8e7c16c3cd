"""Of one copy each statement is asked once, and what a page's statements add up is added up once."""

from __future__ import annotations

from datetime import date

import duckdb

from finops_assets.explore.remembering import Memory, Remembering

FIRST, END = date(2026, 10, 1), date(2026, 11, 1)
RELATION = "(SELECT charge_date, service, sum(cost) AS cost FROM charges GROUP BY ALL)"
COUNTED = f"SELECT count(*), sum(cost) FROM {RELATION} r WHERE r.charge_date < $end"
NAMED = f"SELECT service, sum(cost) FROM {RELATION} r GROUP BY ALL ORDER BY ALL"


def test_statements_of_one_page_share_their_sums_and_others_their_answers() -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE charges AS SELECT DATE '2026-09-29' + CAST(n AS INTEGER) AS charge_date, 's' || n % 2 AS service, 1 AS cost"
            " FROM range(10) days(n)"
        )
        memory = Memory()
        page = Remembering(connection.cursor(), memory)
        page.sum_once(RELATION, FIRST, END)
        assert page.execute(COUNTED, {"end": END}).fetchall() == [(8, 8)], "the days before the first are not added up"
        # A copy does not change; here it does, to show what is read again.
        connection.execute("INSERT INTO charges VALUES (DATE '2026-10-20', 's1', 100)")
        assert page.execute(NAMED).fetchall() == [("s0", 4), ("s1", 4)]
        assert page.execute(f"DESCRIBE SELECT * FROM {RELATION}").fetchall()[1][0] == "service"
        other = Remembering(connection.cursor(), memory)
        assert other.execute(NAMED).fetchall() == [("s0", 4), ("s1", 4)], "the same statement has the same answer"
        assert other.execute(COUNTED, {"end": date(2027, 1, 1)}).fetchall() == [(11, 110)]
