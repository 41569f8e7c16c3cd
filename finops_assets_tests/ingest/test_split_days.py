"""What a day of a delivery comes to, read from its slices."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from finops_assets.base.sql import literal
from finops_assets.ingest.same_charges import SAMPLE, SAMPLED, Sample
from finops_assets.ingest.split_days import split_days
from finops_assets.storage.duck import by_day
from finops_assets_tests.conftest import Site, focus_row

D1 = "2026-09-01"


def test_a_provider_may_name_columns_as_our_statements_do(site: Site) -> None:
    odd = dict.fromkeys(("k0", "k1", "own", "allocated", "place", "row", "row_hash", "charge_hash"), "theirs")
    site.put_csv("a.csv", focus_row(D1, **odd))
    [entry] = site.land()
    assert (entry.state, entry.rows) == ("live", 1), entry.reason
    assert site.land()[0].identity == entry.identity


def test_the_sample_of_a_day_is_one_over_its_currencies(site: Site) -> None:
    rows = [focus_row(D1, ResourceId=f"vm-{n}", BillingCurrency=("USD", "EUR")[n % 2]) for n in range(3 * SAMPLED)]
    site.put_csv("a.csv", *rows)
    [entry] = site.land()
    [file] = site.platform.lake.root.glob("landing/**/charge_date=*/*.parquet")
    with site.platform.warehouse.reading() as connection:
        found = split_days(connection, file.parent.parent)
        smallest = connection.execute(f"SELECT {', '.join(SAMPLE)} FROM {by_day(literal(str(file)))}").fetchone()
    [(day, (totals, sample))] = found.items()
    assert (day, totals) == (date.fromisoformat(D1), entry.days[day])
    assert totals.effective == {"EUR": Decimal("75"), "USD": Decimal("75")}
    assert smallest is not None
    assert sample == Sample.of(*smallest)
    assert len(sample.rows) == len(sample.charges) == SAMPLED
