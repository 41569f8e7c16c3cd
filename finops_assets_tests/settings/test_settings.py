"""finops.yaml: every mistake at once, each with its place, the value found and what is allowed."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from finops_assets.base.errors import ConfigError
from finops_assets.base.secrets import without_secrets
from finops_assets.settings.lake import LakeStore
from finops_assets.settings.load import CONFIG_ENV, load_settings, parse_settings
from finops_assets.settings.model import Settings
from finops_assets.settings.section import Section
from finops_assets_tests.places import PROJECT

FILE = Path("/conf/finops.yaml")
GOOD = """\
first_day: 2026-08-01
lake: data/lake
warehouse: data/w.duckdb
published: /srv/finops.duckdb
sources:
  - name: aws
    uri: exports/aws
    layout: aws-data-exports
  - name: azure
    uri: /exports/azure
    layout: azure-exports
dimensions:
  team:
    keys: [team, squad]
    values: {core-team: core}
  department:
    keys: [dept]
tag_policy:
  required: [team]
  thresholds:
    team: {warn_above: 10, block_above: 30}
  sources:
    aws:
      team: {warn_above: 20, block_above: 40}
acknowledged:
  - {source: aws, day: 2026-09-01, reason: refund}
"""


def mistakes(text: str) -> dict[str, tuple[int | None, str]]:
    """path -> (line, message) of every mistake."""
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, FILE)
    assert str(FILE) in str(caught.value)
    return {m.path: (m.line, m.message) for m in caught.value.mistakes}


def replaced(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def line_of(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


def test_the_example_is_good() -> None:
    found = parse_settings(GOOD, FILE)
    assert found.first_day == date(2026, 8, 1)
    assert found.acknowledged[0].day == date(2026, 9, 1)
    assert found.tag_policy.threshold("aws", "team").block_above == 40
    assert found.tag_policy.threshold("azure", "team").block_above == 30
    assert found.tag_policy.threshold("azure", "department").block_above == 50


def test_the_shipped_configuration_is_good() -> None:
    found = load_settings(PROJECT / "finops.yaml")
    assert {source.name for source in found.sources} == {"aws", "azure", "gcp"}


def test_relative_paths_are_relative_to_the_file() -> None:
    found = parse_settings(GOOD, FILE)
    assert found.lake == Path("/conf/data/lake")
    assert found.warehouse == Path("/conf/data/w.duckdb")
    assert found.published == Path("/srv/finops.duckdb")
    assert [source.uri for source in found.sources] == ["/conf/exports/aws", "/exports/azure"]


def test_a_section_that_is_left_out_is_one_without_a_word_in_it() -> None:
    defaults = {
        name: field.default for name, field in Settings.model_fields.items() if isinstance(field.default, Section)
    }
    assert len(defaults) > 5
    for name, default in defaults.items():
        assert default == type(default).model_validate({}), name
    told = subprocess.run(
        [sys.executable, "-c", "from finops_assets.settings.model import *; print(Alerts.__pydantic_complete__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.strip() == "False", "its validator is built where a finops.yaml has it, not for its default"


def test_a_uri_with_a_scheme_stays_as_it_is() -> None:
    found = parse_settings(replaced("uri: /exports/azure", "uri: file:///exports/azure"), FILE)
    assert found.sources[1].uri == "file:///exports/azure"


@pytest.mark.parametrize(
    ("old", "new", "path", "said"),
    [
        ("lake: data/lake", "laek: data/lake", "laek", "is not a known setting; did you mean 'lake'?"),
        ("lake: data/lake", "", "lake", "is missing and has no default"),
        ("    uri: exports/aws", "    url: exports/aws", "sources[0].url", "did you mean 'uri'?"),
        ("  required: [team]", "  requierd: [team]", "tag_policy.requierd", "did you mean 'required'?"),
        ("{source: aws, day", "{sources: aws, day", "acknowledged[0].sources", "did you mean 'source'?"),
        ("team: {warn_above: 10,", "team: {warn_abov: 10,", "tag_policy.thresholds.team.warn_abov", "did you mean 'warn_above'?"),
        ("team: {warn_above: 20,", "team: {warn: 20,", "tag_policy.sources.aws.team.warn", "is not a known setting"),
        ("    keys: [dept]", "    key: [dept]", "dimensions.department.key", "did you mean 'keys'?"),
        ("name: azure", "name: aws", "sources[1].name", "found 'aws' again (first at sources[0])"),
        ("name: azure", "name: Azure East", "sources[1].name", "found 'Azure East'; allowed: lower-case letters"),
        ("uri: /exports/azure", "uri: exports/aws/", "sources[1].uri", "would be counted twice"),
        ("layout: azure-exports", "layout: oci", "sources[1].layout", "found 'oci'; allowed: 'aws-data-exports'"),
        ("keys: [dept]", "keys: [dept, User:Squad]", "dimensions.department.keys[1]", "matches 'squad' of dimension 'team'"),
        ("keys: [dept]", "keys: ['--']", "dimensions.department.keys[0]", "has no letter or digit"),
        ("keys: [dept]", "keys: []", "dimensions.department.keys", "is empty; at least one entry is needed"),
        ("{core-team: core}", "{core-team: core, 'Core-Team ': kernel}", "dimensions.team.values.Core-Team ", "already becomes 'core'"),
        ("  department:", "  charge_date:", "dimensions.charge_date", "taken by a column"),
        ("  department:", "  resourceid:", "dimensions.resourceid", "taken by a column"),
        ("  department:", "  tags:", "dimensions.tags", "taken by a column"),
        ("  department:", "  team_key:", "dimensions.team_key", "taken by a column"),
        ("warn_above: 10, block_above: 30", "warn_above: 31, block_above: 30", "tag_policy.thresholds.team", "warn must not exceed block"),
        ("warn_above: 20, block_above: 40", "warn_above: 50, block_above: 40", "tag_policy.sources.aws.team", "warn must not exceed block"),
        ("block_above: 30", "block_above: 130", "tag_policy.thresholds.team.block_above", "found 130"),
        ("required: [team]", "required: [team, squad]", "tag_policy.required[1]", "found 'squad'; allowed: department, team"),
        ("  sources:\n    aws:", "  sources:\n    gcp:", "tag_policy.sources.gcp", "found 'gcp'; allowed: aws, azure"),
        ("source: aws, day", "source: gcp, day", "acknowledged[0].source", "found 'gcp'; allowed: aws, azure"),
        ("reason: refund", "reason: ''", "acknowledged[0].reason", "found ''"),
        ("first_day: 2026-08-01", "first_day: 2026-13-01", "first_day", "found '2026-13-01'"),
        ("first_day: 2026-08-01", "first_day: soon", "first_day", "found 'soon'"),
        ("day: 2026-09-01", "day: 2026-09-31", "acknowledged[0].day", "found '2026-09-31'"),
        ("    layout: azure-exports", "    layout: azure-exports\n    layout: files", "sources[1].layout", "stands twice"),
        ("lake: data/lake", "lake: data/lake\nlake: other", "lake", "stands twice"),
        ("acknowledged:", "engine: {memory_limit: lots}\nacknowledged:", "engine.memory_limit", "found 'lots'"),
        ("acknowledged:", "engine: {thread: 2}\nacknowledged:", "engine.thread", "did you mean 'threads'?"),
        ("lake: data/lake", "lake: s3:///lake", "lake.uri", "names no bucket or container"),
        ("lake: data/lake", "lake: ftp://host/lake", "lake.uri", "found ftp://; allowed: a local path"),
        ("lake: data/lake", "lake: s3://bucket/lake/*", "lake.uri", "it must name a folder"),
        ("lake: data/lake", "lake: gs://bucket/lake.parquet", "lake.uri", "it must name a folder"),
        ("lake: data/lake", "lake: {uri: data/lake}", "lake.uri", "a local folder is written without uri"),
        ("lake: data/lake", "lake: {uri: 's3://b/l', endpoint: x}", "lake.endpoint", "did you mean 'endpoint_url'?"),
        ("lake: data/lake", "lake: {endpoint_url: x}", "lake.uri", "is missing"),
        ("lake: data/lake", "lake: 7", "lake", "found 7"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_with_its_place_and_value(old: str, new: str, path: str, said: str) -> None:
    text = replaced(old, new)
    found = mistakes(text)
    assert path in found
    line, message = found[path]
    assert said in message
    if "is missing" not in said:
        assert line is not None
        assert text.splitlines()[line - 1].strip()


@pytest.mark.parametrize(
    ("written", "uri", "endpoint"),
    [
        ("s3://bucket/finops/lake/", "s3://bucket/finops/lake", None),
        ("az://container", "az://container", None),
        ("https://acc.blob.core.windows.net/container/lake", "https://acc.blob.core.windows.net/container/lake", None),
        ("{uri: 'gs://bucket/lake'}", "gs://bucket/lake", None),
        ("{uri: 's3://b/lake', endpoint_url: 'http://minio:9000'}", "s3://b/lake", "http://minio:9000"),
    ],
)
def test_a_lake_may_lie_on_a_store(written: str, uri: str, endpoint: str | None) -> None:
    found = parse_settings(replaced("lake: data/lake", f"lake: {written}"), FILE)
    assert found.lake == LakeStore(uri=uri, endpoint_url=endpoint)


def test_a_local_lake_may_be_written_as_a_file_uri() -> None:
    assert parse_settings(replaced("lake: data/lake", "lake: file:///srv/lake"), FILE).lake == Path("/srv/lake")


@pytest.mark.parametrize(
    "uri", ["s3://AKIA:hush@bucket/lake", "https://acc.blob.core.windows.net/c/lake?sv=1&sig=hush"]
)
def test_credentials_in_the_lakes_uri_are_refused_and_not_shown(uri: str) -> None:
    text = replaced("lake: data/lake", f"lake: '{uri}'")
    _, message = mistakes(text)["lake.uri"]
    assert "provider's own chain" in message or "a SAS token does not belong into finops.yaml" in message
    assert "hush" not in message


def test_every_mistake_is_reported_at_once_with_its_line() -> None:
    text = (
        GOOD.replace("first_day: 2026-08-01", "first_day: 2026-02-30")
        .replace("name: azure", "name: aws")
        .replace("layout: azure-exports", "layout: azure")
        .replace("keys: [dept]", "keys: [Squad]")
        .replace("required: [team]", "required: [crew]")
        .replace("warn_above: 10", "warn_above: 90")
        .replace("lake: data/lake", "lakes: data/lake")
    )
    found = mistakes(text)
    assert {path: line for path, (line, _) in found.items()} == {
        "first_day": 1,
        "lake": None,
        "lakes": 2,
        "sources[1].name": line_of(text, "name: aws") + 3,
        "sources[1].layout": line_of(text, "layout: azure"),
        "dimensions.department.keys[0]": line_of(text, "[Squad]"),
        "tag_policy.required[0]": line_of(text, "[crew]"),
        "tag_policy.thresholds.team": line_of(text, "warn_above: 90"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("first_day: [", "is not YAML"),
        ("a: b: c", "is not YAML"),
        ("\tlake: x", "is not YAML"),
        ("lake: \x00", "is not YAML"),
        ("? [a, b]\n: c\n", "is not YAML"),
        ("", "is empty"),
        ("- lake", "must be a mapping, found list"),
        ("lake", "must be a mapping, found str"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_said(text: str, said: str) -> None:
    [(_, message)] = mistakes(text).values()
    assert said in message


def test_a_mistake_in_yaml_has_its_line() -> None:
    [(line, _)] = mistakes("first_day: 2026-08-01\nlake: [a\nwarehouse: b\n").values()
    assert line == 3


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file") as caught:
        load_settings(tmp_path / "none.yaml")
    assert "none.yaml" in str(caught.value)


def test_a_file_that_is_no_text_is_said(tmp_path: Path) -> None:
    file = tmp_path / "finops.yaml"
    file.write_bytes(b"lake: \xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_settings(file)


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(GOOD)
    monkeypatch.setenv(CONFIG_ENV, str(file))
    assert load_settings().lake == tmp_path / "data/lake"


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["aws", "team", "", "2026-01-01"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["aws", "team", "keys", "name"]), inner)
    ),
    max_leaves=4,
)
places = st.sampled_from(
    [
        (key,) for key in yaml.safe_load(GOOD)
    ]
    + [
        ("sources", 0), ("sources", 0, "name"), ("sources", 1, "uri"), ("dimensions", "team"),
        ("dimensions", "team", "keys"), ("dimensions", "team", "keys", 0), ("dimensions", "team", "values"),
        ("tag_policy", "required"), ("tag_policy", "required", 0), ("tag_policy", "thresholds"),
        ("tag_policy", "thresholds", "team"), ("tag_policy", "sources"), ("tag_policy", "sources", "aws"),
        ("acknowledged", 0), ("acknowledged", 0, "source"), ("engine",), ("plausibility",), ("placeholders",),
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(place=places, value=anything)
def test_whatever_stands_in_a_place_there_are_settings_or_mistakes_never_a_crash(
    place: tuple[str | int, ...], value: Any
) -> None:
    body: Any = yaml.load(GOOD, Loader=yaml.BaseLoader)
    inner = body
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    try:
        parse_settings(yaml.safe_dump(body), FILE)
    except ConfigError as error:
        assert error.mistakes  # noqa: PT017


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("uri: a, layout: files", "uri: ./a/, layout: files", "found './a/' for source 'y', which source 'x' has, too"),
        ("uri: a, layout: files", "uri: file:///FOLDER/a, layout: oci-focus", "which source 'x' has, too"),
        ("uri: a, layout: files", "uri: link, layout: files", "which source 'x' has, too"),
        ("uri: a, layout: files", "uri: a/b, layout: aws-data-exports", "which lies within that of source 'x'"),
        ("uri: a/b, layout: files", "uri: a, layout: files", "within which that of source 'x' lies"),
        ("uri: a, layout: files", "uri: a/*.csv, layout: files", "which lies within that of source 'x'"),
        ("uri: a/*.csv, layout: files", "uri: a/*.csv, layout: files", "which source 'x' has, too"),
        ("uri: s3://b/e, layout: aws-cur", "uri: s3://b/e/f/, layout: aws-cur", "which lies within that of"),
        ("uri: az://c/e, layout: files", "uri: az://c/e/f.csv, layout: files", "which lies within that of"),
        ("uri: a, layout: files", "uri: '', layout: files", "is empty"),
        ("uri: a, layout: files", "uri: 's3://', layout: files", "names no"),
        ("uri: a, layout: files", "uri: ftp://host/x, layout: files", "found ftp://; allowed: a local path"),
        ("uri: a, layout: files", "uri: state, layout: files", "below which lake lies"),
    ],
)
def test_sources_that_read_the_same_files_are_refused_by_name(
    tmp_path: Path, first: str, second: str, says: str
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    text = two_sources(first, second.replace("/FOLDER", str(tmp_path)))
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, tmp_path / "finops.yaml")
    assert "sources[1].uri" in [m.path for m in caught.value.mistakes]
    assert says in str(caught.value)


def two_sources(first: str, second: str) -> str:
    return (
        "first_day: 2026-01-01\nlake: state/lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        f"sources: [{{name: x, {first}}}, {{name: y, {second}}}]\ndimensions: {{team: {{keys: [team]}}}}\n"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("uri: a/x, layout: files", "uri: a/xy, layout: files"),
        ("uri: a/1-*.csv, layout: files", "uri: a/2-*.csv, layout: files"),
        ("uri: a, layout: azure-exports", "uri: a/aws, layout: aws-data-exports"),
        ("uri: s3://b/e, layout: files", "uri: s3://c/e, layout: files"),
        ("uri: a, layout: files", "uri: a, layout: files, shadow_of: x"),
        ("uri: 'a [1]', layout: files", "uri: a 1, layout: files"),
    ],
)
def test_sources_beside_each_other_are_fine(tmp_path: Path, first: str, second: str) -> None:
    for folder in ("a/x", "a/xy", "a [1]", "a 1"):
        (tmp_path / folder).mkdir(parents=True)
    assert len(parse_settings(two_sources(first, second), tmp_path / "finops.yaml").sources) == 2


def test_lake_warehouse_and_published_copy_are_three_places() -> None:
    [(where, what)] = mistakes(replaced("warehouse: data/w.duckdb", "warehouse: data/lake")).items()
    assert where == "warehouse"
    assert "as lake has; each needs a path of its own" in what[1]


def test_a_file_that_is_not_there_or_empty_says_what_helps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file.*name the file with --config or \$FINOPS_CONFIG"):
        load_settings(tmp_path / "finops.yaml")
    (tmp_path / "finops.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"is empty; the project's finops\.yaml shows each setting"):
        load_settings(tmp_path / "finops.yaml")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://bucket/path", "s3://bucket/path"),
        ("https://me:secret@host/path", "https://host/path"),
        ("/local/path@2", "/local/path@2"),
    ],
)
def test_a_uri_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown


@pytest.mark.parametrize("url", ["http://me:hunter22@minio:9000", "https://minio:9000/?sig=hunter22"])
@pytest.mark.parametrize("place", ["lake", "source"])
def test_an_endpoint_with_credentials_is_refused_and_not_shown(place: str, url: str) -> None:
    text = (
        "first_day: 2026-01-01\nwarehouse: w\npublished: p\ndimensions: {team: {keys: [team]}}\n"
        "lake: LAKE\nsources: [{name: one, uri: 's3://b/one', layout: files, endpoint_url: SOURCE}]\n"
    )
    text = text.replace("LAKE", "{uri: 's3://b/lake', endpoint_url: URL}" if place == "lake" else "lake")
    text = text.replace("SOURCE", "URL" if place == "source" else "'http://minio:9000'")
    with pytest.raises(ConfigError, match="holds credentials; take them out") as caught:
        parse_settings(text.replace("URL", f"'{url}'"), FILE)
    assert "hunter22" not in str(caught.value)


def test_a_password_in_a_uri_is_not_shown() -> None:
    text = GOOD.replace("uri: ", "uri: 's3://me:hunter22@bucket/x' # ", 1)
    with pytest.raises(ConfigError, match="with credentials in it") as caught:
        parse_settings(text, FILE)
    assert "hunter22" not in str(caught.value)
