"""A bill of any vendor by a mapping of ten lines that its user wrote: exact, gated, and landed anew when the mapping changes."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from finops_assets.base.errors import ConfigError
from finops_assets.judge.conformance.report import judge_source
from finops_assets.settings.load import parse_settings
from finops_assets_tests.conftest import Site

pytestmark = pytest.mark.slow
MAPPING = """\
title = "Code Host"
[columns]
ChargePeriodStart = "{date}"
BilledCost = "{net amount}"
ListCost = "{Gross_Amount}"
BillingCurrency = "'USD'"
ServiceName = "{product}"
ConsumedQuantity = "{quantity}"
ConsumedUnit = "{unit_type}"
Tags = "json_object('team', {cost_center_name}, 'repository', {repository})"
x_user = "{username}"
"""
BILL = """\
date,product,sku,quantity,unit_type,gross_amount,net_amount,username,repository,cost_center_name
2026-10-01,actions,linux,12.5,minutes,0.100000000000000001,0.080000000000000001,ada,site,web
2026-10-01,storage,packages,3,GigabyteHours,1.50,1.50,,site,
2026-10-02,actions,linux,1,minutes,0.008,0.008,bob,api,core-team
"""
DAYS = ("2026-10-01", "2026-10-02")


def site(folder: Path, mapping: str = MAPPING, bill: str = BILL) -> Site:
    (folder / "codehost.toml").write_text(mapping, encoding="utf-8")
    made = Site(folder, layout="files, mapping: codehost.toml, provider: Code Host")
    made.put("2026-10.csv", bill)
    return made


def by_team(made: Site) -> list[tuple[str, str, Decimal, Decimal]]:
    with made.platform.warehouse.reading() as connection:
        return connection.execute(
            "SELECT charge_date::VARCHAR, team, effective_cost, list_cost FROM daily_cost_by_team ORDER BY ALL"
        ).fetchall()


def test_a_csv_of_any_vendor_becomes_cost_by_team(tmp_path: Path) -> None:
    made = site(tmp_path)
    [landed] = made.land()
    assert (landed.state, landed.reason) == ("live", None)
    made.run_all(*DAYS)
    assert by_team(made) == [
        ("2026-10-01", "__untagged__", Decimal("1.5"), Decimal("1.5")),
        ("2026-10-01", "web", Decimal("0.080000000000000001"), Decimal("0.100000000000000001")),
        ("2026-10-02", "core", Decimal("0.008"), Decimal("0.008")),
    ]
    held = {key: verdict.message for key, verdict in made.judge(*DAYS).items() if not verdict.passed}
    assert not held, "a mapping says what its vendor leaves out"
    [row] = made.rows(
        DAYS[1],
        "ProviderName, ServiceName, BillingPeriodStart, ChargePeriodEnd, ConsumedUnit, ChargeCategory, x_user, x_sku",
    )
    assert [str(value) for value in row] == [
        "Code Host", "actions", "2026-10-01 00:00:00", "2026-10-03 00:00:00", "minutes", "Usage", "bob", "linux",
    ]  # fmt: skip


def test_prompts_and_what_is_left_out_are_not_landed(tmp_path: Path) -> None:
    head, *rows = BILL.splitlines()
    planted = "\n".join(
        (f"{head},Messages,proxy_server_request,response,note", *(f"{r},ask me,sk-1,i say,no" for r in rows))
    )
    made = site(tmp_path, MAPPING.replace("[columns]", 'without = ["note"]\n[columns]'), planted)
    made.run_all(*DAYS)
    with duckdb.connect() as connection:
        lying = (tmp_path / "lake").rglob("*.parquet")
        read = {str(f): connection.execute("SELECT * FROM read_parquet(?)", [str(f)]).df().to_csv() for f in lying}
    assert any("Code Host" in content for content in read.values())
    for text in ("ask me", "sk-1", "i say", "essages", "note"):
        assert not [file for file, content in read.items() if text in content]
    named = site(tmp_path, MAPPING + 'x_said = "{response}"\n', planted)
    named.run_all(*DAYS)
    assert named.rows(DAYS[1], "x_said") == [("i say",)], "a mapping that names it means it"


def test_another_mapping_lands_the_same_files_anew(tmp_path: Path) -> None:
    made = site(tmp_path)
    made.run_all(*DAYS)
    assert made.land() == made.land(), "nothing changed"
    [before] = made.generations("2026-10.csv")
    again = site(tmp_path, MAPPING.replace('"{net amount}"', '"{gross_amount}"'))
    again.run_all(*DAYS)
    assert [g.state for g in again.generations("2026-10.csv") if g.generation == before.generation] == ["superseded"]
    assert [cost for *_, cost, _ in by_team(again)] == [
        Decimal("1.5"), Decimal("0.100000000000000001"), Decimal("0.008"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mapping", "bill", "says"),
    [
        (MAPPING, BILL.replace("net_amount", "net"), "has no column net amount, which mapping codehost.toml asks for"),
        (MAPPING.replace('"{product}"', '"no_such({product})"'), BILL, "the SQL of mapping codehost.toml"),
        (MAPPING, BILL.replace(",0.008,0.008,", ",0.008,free,"), "BilledCost"),
    ],
)
def test_what_does_not_fit_is_refused_whole_and_says_why(tmp_path: Path, mapping: str, bill: str, says: str) -> None:
    made = site(tmp_path, mapping, bill)
    [landed] = made.land()
    if landed.state == "live":
        made.compose(*DAYS)
        told = str([verdict for verdict in made.judge(*DAYS).values() if not verdict.passed])
    else:
        told = str(landed.reason)
    assert says in told


def test_an_optional_column_may_be_absent(tmp_path: Path) -> None:
    bill = "\n".join(",".join(line.split(",")[:-1]) for line in BILL.splitlines()) + "\n"
    made = site(tmp_path, f'optional = ["cost_center_name"]\n{MAPPING}', bill)
    made.run_all(*DAYS)
    assert {team for _, team, *_ in by_team(made)} == {"__untagged__"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title = 1", "codehost.toml: title"),
        ('title = "x"\n[columns]\nBilledCost = "{a}"\n', "ChargePeriodStart, BillingCurrency are needed"),
        (MAPPING + 'Colour = "{product}"\n', "found Colour, which are no columns of FOCUS"),
        (MAPPING.replace('"{date}"', '"{@day}"'), "day are used as {@…} and not there"),
        ("title: x", "is not TOML"),
        (None, "cannot be read"),
    ],
)
def test_a_mapping_that_is_wrong_is_told_when_finops_yaml_is_read(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "codehost.toml").write_text(text, encoding="utf-8")
    wrong = Site(tmp_path, layout="files, mapping: codehost.toml")
    with pytest.raises(ConfigError) as told:
        parse_settings(wrong.text, tmp_path / "finops.yaml")
    assert says in str(told.value)
    assert "sources[0].mapping" in str(told.value)


def test_a_layout_that_knows_its_columns_takes_no_mapping(tmp_path: Path) -> None:
    (tmp_path / "codehost.toml").write_text(MAPPING, encoding="utf-8")
    with pytest.raises(ConfigError, match="mapping is for layout files"):
        parse_settings(Site(tmp_path, layout="aws-cur, mapping: codehost.toml").text, tmp_path / "finops.yaml")


CONTRACTS = """\
title = "Contracts"
[columns]
ChargePeriodStart = "{begins}"
ChargePeriodEnd = "{ends}"
BilledCost = "{fee}"
BillingCurrency = "{currency}"
ChargeCategory = "'Purchase'"
ChargeFrequency = "'Recurring'"
ServiceName = "{product}"
PricingQuantity = "{seats}"
PricingUnit = "'Seats'"
Tags = "json_object('team', {team})"
"""
CONTRACT = "product,seats,fee,currency,begins,ends,team\nDesign tool,25,3650,USD,2026-10-01,2027-10-01,web\nWiki,10,31,EUR,2026-10-02,2026-11-02,core-team\n"


def test_contracts_of_seats_are_accrued_by_day_and_billed_on_theirs(tmp_path: Path) -> None:
    made = site(tmp_path, CONTRACTS, CONTRACT)
    made.run_all(*DAYS)
    assert not {key: verdict.message for key, verdict in made.judge(*DAYS).items() if not verdict.passed}
    [seats] = made.rows(DAYS[0], "PricingQuantity, PricingUnit, ChargeFrequency, ChargePeriodEnd")
    assert [str(value) for value in seats] == ["25.000000000000000000", "Seats", "Recurring", "2027-10-01 00:00:00"]
    with made.platform.warehouse.reading() as connection:
        accrued = connection.execute(
            "SELECT accrual_date::VARCHAR, team, BillingCurrency, sum(accrued_cost) FROM daily_accrued_cost GROUP BY ALL"
            " HAVING sum(accrued_cost) <> 0 ORDER BY ALL"
        ).fetchall()
        assert accrued == [
            (DAYS[0], "web", "USD", Decimal(10)), (DAYS[1], "core", "EUR", Decimal(1)), (DAYS[1], "web", "USD", Decimal(10)),
        ]  # fmt: skip
        booked = connection.execute("SELECT team, sum(billed_cost) FROM daily_cost_by_team GROUP BY ALL ORDER BY ALL")
        assert booked.fetchall() == [("core", Decimal(31)), ("web", Decimal(3650))], "cash is not accrued"


def test_rules_that_a_mapping_excepts_are_known_and_others_are_told(tmp_path: Path) -> None:
    bill = BILL.replace("packages,3,", "packages,,")

    def broken(folder: str, mapping: str) -> set[str]:
        (tmp_path / folder).mkdir()
        made = site(tmp_path / folder, mapping, bill)
        made.run(*DAYS)
        findings = judge_source(made.platform, made.source, map(date.fromisoformat, DAYS))
        return {f.rule.id for f in findings if f.state == "failed" and f.rule.severity == "error"}

    assert broken("plain", MAPPING) == {"CAU-ConsumedQuantity-USAGE", "CAU-ConsumedUnit-WITH-QUANTITY"}
    excepted = f'{MAPPING}[exceptions]\nCAU-ConsumedQuantity-USAGE = "packages have none"\n'
    assert broken("excepted", excepted) == {"CAU-ConsumedUnit-WITH-QUANTITY"}
