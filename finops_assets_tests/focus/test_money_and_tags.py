"""Money is exact whatever the file holds, and a tag set is the same whatever its encoding."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finops_assets.focus.money import (
    decimal_from_double,
    decimal_from_plain_double,
    decimal_from_text,
    odd_double,
    register,
    was_too_fine,
)
from finops_assets.focus.tags import canonical_tags, tag_set_id

PLACES = Decimal("1e-18")
LIMIT = Decimal(10) ** 20
# A module-wide engine is no state that one example could leave for the next.
examples = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        register(connection)
        connection.execute("SET threads = 1")
        yield connection


def in_engine(engine: duckdb.DuckDBPyConnection, sql: str, kind: str, values: list[object]) -> list[object]:
    """An SQL expression over `v` for every value, through a column as a file would give it."""
    rows = engine.execute(
        f"SELECT {sql} FROM (SELECT unnest(?::{kind}[]) AS v, unnest(range({len(values)})) AS i) ORDER BY i", [values]
    ).fetchall()
    return [row[0] for row in rows]


def rounded(value: Decimal) -> Decimal | None:
    """What a value is at 18 places, half to even; None where DECIMAL(38, 18) cannot hold it."""
    with localcontext() as context:
        context.prec = 2000
        result = value.quantize(PLACES, ROUND_HALF_EVEN)
    return result if abs(result) < LIMIT else None


plain_numbers = st.decimals(min_value=-(10**21), max_value=10**21, allow_nan=False, places=None).map(str)
fine_numbers = st.builds(
    lambda sign, whole, digits, tail: f"{sign}{whole}.{digits:018d}{tail}",
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**12),
    st.integers(0, 10**18 - 1),
    st.sampled_from(["5", "50", "500", "5001", "4999", "51", "49", "00000001", "", "0", "12345678"]),
)
with_exponents = st.builds(
    lambda digits, fraction, e, exponent: f"{digits}{fraction}{e}{exponent}",
    st.integers(-(10**15), 10**15),
    st.sampled_from(["", ".5", ".25", ".000", ".125"]),
    st.sampled_from(["e", "E", "e+", "E-", "e-", "e-0"]),
    st.integers(0, 40),
)


@examples
@given(st.lists(plain_numbers | fine_numbers | with_exponents, min_size=1, max_size=30))
def test_text_becomes_the_decimal_that_python_reads_rounded_half_to_even(
    engine: duckdb.DuckDBPyConnection, texts: list[object]
) -> None:
    found = in_engine(engine, decimal_from_text("v"), "VARCHAR", texts)
    assert dict(zip(texts, found)) == {text: rounded(Decimal(str(text))) for text in texts}
    flagged = in_engine(engine, was_too_fine("v"), "VARCHAR", texts)
    fits = {text: bool(flag) for text, flag, amount in zip(texts, flagged, found) if amount is not None}
    assert fits == {text: rounded(Decimal(str(text))) != Decimal(str(text)) for text in fits}


tie_doubles = st.sampled_from([5e-19, 1.5e-18, 2.5e-18, -2.5e-18, 1.00000000000005e-05, 3.5e-18, 5e-324, -0.0])
any_doubles = st.floats(allow_nan=False, allow_infinity=False)
bill_doubles = st.floats(-1e5, 1e5) | st.decimals(-1000, 1000, places=10).map(float) | st.floats(-1e-2, 1e-2)


@examples
@given(st.lists(bill_doubles | any_doubles | tie_doubles, min_size=1, max_size=50))
def test_a_double_becomes_its_shortest_decimal(engine: duckdb.DuckDBPyConnection, values: list[object]) -> None:
    found = in_engine(engine, decimal_from_double("v"), "DOUBLE", values)
    assert dict(zip(values, found)) == {value: rounded(Decimal(repr(value))) for value in values}


few_places = st.decimals(-10_000, 10_000, places=9).map(float) | st.decimals(-999, 999, places=12).map(float)
no_amounts = st.sampled_from([None, float("nan"), float("inf"), float("-inf"), 1e22])


@examples
@given(st.lists(few_places | bill_doubles | no_amounts, min_size=1, max_size=50))
def test_what_is_read_at_once_is_what_is_read_with_care_and_nothing_of_it_is_rounded(
    engine: duckdb.DuckDBPyConnection, values: list[object]
) -> None:
    with_care = in_engine(engine, decimal_from_double("v"), "DOUBLE", values)
    for finely in (False, True):
        odd = in_engine(engine, odd_double("v", finely), "DOUBLE", values)
        plain = [(value, amount) for value, amount, is_odd in zip(values, with_care, odd) if not is_odd]
        at_once = in_engine(engine, decimal_from_plain_double("v", finely), "DOUBLE", [value for value, _ in plain])
        assert at_once == [None if value is None else Decimal(repr(value)) for value, _ in plain]
        assert at_once == [amount for _, amount in plain]


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1e-7", "0.0000001"),
        ("1E-20", "0"),
        ("1.5e-18", "0.000000000000000002"),
        ("2.5e-18", "0.000000000000000002"),
        ("0.1234567890123456785", "0.123456789012345678"),
        ("0.1234567890123456775", "0.123456789012345678"),
        ("-0.1234567890123456785", "-0.123456789012345678"),
        (" 12.50 ", "12.5"),
        ("99999999999999999999.999999999999999999", "99999999999999999999.999999999999999999"),
        ("100000000000000000000", None),
        ("free", None),
        ("1,5", None),
        ("$5", None),
        ("nan", None),
        ("1e", None),
        ("e5", None),
        (".e5", None),
        (".", None),
        ("-", None),
        ("1e5000", None),
    ],
)
def test_text_as_bills_write_it(engine: duckdb.DuckDBPyConnection, text: str, amount: str | None) -> None:
    expected = None if amount is None else Decimal(amount)
    assert in_engine(engine, decimal_from_text("v"), "VARCHAR", [text]) == [expected]


def test_a_double_that_is_no_amount_becomes_null(engine: duckdb.DuckDBPyConnection) -> None:
    values: list[object] = [float("nan"), float("inf"), float("-inf"), 1e22, None]
    assert in_engine(engine, decimal_from_double("v"), "DOUBLE", values) == [None] * 5


keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
tag_values = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.booleans() | st.none() | st.integers()
tag_sets = st.dictionaries(keys, tag_values, min_size=1, max_size=5)


@given(tag_sets)
def test_every_encoding_of_a_tag_set_gives_the_same_text(tags: dict[str, object]) -> None:
    as_object = json.dumps(tags)
    as_list = json.dumps([{"key": key, "value": value} for key, value in tags.items()])
    as_upper_list = json.dumps([{"Key": key, "Value": value, "x_Inherited": True} for key, value in tags.items()])
    reversed_object = json.dumps(dict(reversed(tags.items())), ensure_ascii=False, indent=2)
    expected = canonical_tags(as_object)
    assert expected.problem is None
    assert json.loads(expected.json or "") == tags
    for text in (as_object[1:-1], as_list, as_upper_list, reversed_object, f"  {as_object}\n", expected.json):
        assert canonical_tags(text) == expected


@pytest.mark.parametrize("text", [None, "", "  ", "{}", "null", "[]"])
def test_no_tags_have_one_form(text: str | None) -> None:
    found = canonical_tags(text)
    assert (found.json, found.problem, found.duplicates) == (None, None, 0)


@pytest.mark.parametrize(
    ("text", "tags", "repeated"),
    [
        ('{"a": "1", "a": "2"}', {"a": "2"}, 1),
        ('"a": "1", "a": "2", "a": "3"', {"a": "3"}, 2),
        ('[{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]', {"a": "2"}, 1),
        ('{"a": "1", "A": "2"}', {"a": "1", "A": "2"}, 0),
    ],
)
def test_of_a_repeated_key_the_last_value_counts_and_the_repetition_is_counted(
    text: str, tags: dict[str, str], repeated: int
) -> None:
    found = canonical_tags(text)
    assert (found.tags, found.duplicates, found.problem) == (tags, repeated, None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("team=core", "is not JSON"),
        ('{"team": "core"', "is not JSON"),
        ('"team"', "is not JSON"),
        ('{"team": NaN}', "NaN is no JSON number"),
        ('{"team": 1e999}', "too large"),
        ("[" * 100_000, "is not JSON"),
        ("5", "is JSON, but int"),
        ('["team"]', "items are not {key, value}"),
        ('[{"name": "team"}]', "items are not {key, value}"),
    ],
)
def test_what_is_no_tag_set_says_why(text: str, problem: str) -> None:
    found = canonical_tags(text)
    assert found.tags is None
    assert problem in (found.problem or "")


@pytest.mark.parametrize(
    ("text", "tags", "nested"),
    [
        ('{"team": "a", "owners": ["x", "y"]}', {"team": "a", "owners": '["x","y"]'}, 1),
        ('{"team": {"b": 1, "a": null}, "of": []}', {"team": '{"a":null,"b":1}', "of": "[]"}, 2),
        ('[{"key": "team", "value": ["core"]}, {"key": "env", "value": "p"}]', {"team": '["core"]', "env": "p"}, 1),
        ('{"team": "a", "who": ["\\ud83d", "é"]}', {"team": "a", "who": '["\ufffd","é"]'}, 1),
    ],
)
def test_a_value_that_is_a_list_or_an_object_stays_as_its_text_and_the_other_keys_count(
    text: str, tags: dict[str, str], nested: int
) -> None:
    found = canonical_tags(text)
    assert (found.tags, found.nested, found.problem) == (tags, nested, None)
    assert canonical_tags(found.json).tags == tags


def test_half_a_surrogate_pair_of_a_cut_off_emoji_is_replaced_not_a_crash() -> None:
    found = canonical_tags('{"te\\ud83dam": "co\\ude00re", "ok": "\\ud83d\\ude00"}')
    assert found.tags == {"te\ufffdam": "co\ufffdre", "ok": "😀"}
    assert (found.json or "").encode()


@given(tag_sets, tag_sets)
def test_the_id_tells_tags_from_allocated_tags(first: dict[str, object], second: dict[str, object]) -> None:
    a, b = canonical_tags(json.dumps(first)).json, canonical_tags(json.dumps(second)).json
    assert tag_set_id(a, None) != tag_set_id(None, a)
    assert tag_set_id(a, None) != tag_set_id(None, None)
    assert (tag_set_id(a, b) == tag_set_id(b, a)) == (a == b)
    assert len(tag_set_id(a, b)) == 32


@pytest.mark.parametrize("text", ['""', "-", "''", "none", "NULL", "n/a", "N/A", '"null"', "[]", "{}", " ", "nan"])
def test_every_way_to_write_no_tags_is_no_tags(text: str) -> None:
    assert canonical_tags(text) == canonical_tags(None)


@pytest.mark.parametrize("text", ["nonesuch", "-x", "team=core"])
def test_what_only_looks_like_it_is_no_tag_set(text: str) -> None:
    assert canonical_tags(text).problem
