"""A made company whose names, accounts and costs say something of the owner, as Parquet facts, at any size.

The estate of `finops_assets.demo` gives resources names without meaning. Here teams have services whose words
stand in most names, accounts belong to a team, a department or nobody, resources are made in batches, and half
of them follow their team's days. Untagged are a third: more of them in shared accounts, so that they are not
simply tagged ones without tags. Their true owners are known.
"""

from __future__ import annotations

from datetime import date, timedelta

import duckdb

from finops_assets.base.sql import literal
from finops_assets.storage.lake import Lake

TEAMS, ACCOUNTS = 400, 300
LAST = date(2026, 10, 31)
TRUTH = "truth.parquet"


def write_company(lake: Lake, resources: int, days: int = 30) -> list[date]:
    """Write the facts of the source `made` for these many resources and days, and who owns what beside them."""
    wanted = [LAST - timedelta(days=n) for n in reversed(range(days))]
    with duckdb.connect(config={"memory_limit": "1GB", "temp_directory": str(lake.root / ".spill")}) as con:
        con.execute("CREATE MACRO draw(a, b, n) AS CAST(hash(a, b) % n AS BIGINT)")
        syllables = "['al','ba','cor','del','en','fi','gor','hel','in','jo','ka','lu','mer','no','or','pa','qui','ra','sol','ti']"
        con.execute(
            f"CREATE MACRO word(n) AS {syllables}[1 + draw(n, 1, 20)] || {syllables}[1 + draw(n, 2, 20)] || {syllables}[1 + draw(n, 3, 20)]"
        )
        con.execute(
            f"""
            CREATE TABLE made AS
            WITH placed AS (
                SELECT r, draw(r, 'account', {ACCOUNTS}) AS account,
                    -- Small batches of one team in one account, of one day.
                    draw(r // 4, 'member', {TEAMS}) AS anybody
                FROM range({resources}) t(r)
            ), owned AS (
                SELECT *, draw(account, 'of', {TEAMS}) AS owner,
                    CASE WHEN account % 10 < 5 THEN draw(account, 'of', {TEAMS})
                        WHEN account % 10 < 8 THEN draw(account, 'of', {TEAMS}) // 8 * 8 + anybody % 8
                        ELSE anybody END AS team
                FROM placed
            )
            SELECT *, word(team * 7 + draw(r, 'service', 3)) AS service_word, word(team * 1000003) AS team_word,
                draw(r, 'untagged', 100) < CASE WHEN account % 10 < 5 THEN 25 WHEN account % 10 < 8 THEN 30 ELSE 50 END
                    AS untagged,
                draw(r // 4, 'made', {days}) AS first_day, draw(r, 'style', 100) AS style, draw(r, 'other', 100) AS other,
                ['api','worker','db','cache','queue','web','job'][1 + draw(r, 'role', 7)] AS role,
                ['prod','dev','staging'][1 + draw(r, 'env', 3)] AS env
            FROM owned
            """
        )
        con.execute(
            """
            CREATE TABLE described AS
            SELECT *, format('{:012x}', hash(r, 'id') >> 16) AS hex,
                CASE WHEN style < 55 THEN service_word || '-' || role || '-' || env || '-' || (r % 20)
                    WHEN style < 70 THEN team_word || role || (r % 20)
                    WHEN style < 80 THEN role || '-' || (r % 50) END AS name,
                to_json(map_from_entries(list_filter([
                    {'key': 'team', 'value': CASE WHEN NOT untagged THEN team_word END},
                    {'key': 'department', 'value': CASE WHEN NOT untagged THEN 'dep-' || word(team // 8 * 77) END},
                    {'key': 'environment', 'value': CASE WHEN other < 50 THEN env END},
                    {'key': 'aws:cloudformation:stack-name', 'value': CASE WHEN other % 10 < 2 THEN service_word || '-stack' END},
                    {'key': 'application', 'value': CASE WHEN other % 10 = 3 THEN service_word END}
                ], lambda t: t.value IS NOT NULL)))::VARCHAR AS tags
            FROM made
            """
        )
        con.execute(
            f"COPY (SELECT 'arn:aws:ec2:eu-west-1:' || account || ':instance/i-' || hex AS ResourceId, team_word AS team,"
            f" 'dep-' || word(team // 8 * 77) AS department, untagged FROM described) TO {literal(str(lake.root / TRUTH))}"
        )
        for number, day in enumerate(wanted):
            file = lake.day_file("facts", "made", day)
            file.parent.mkdir(parents=True, exist_ok=True)
            con.execute(
                f"""
                COPY (
                    SELECT 'arn:aws:ec2:eu-west-1:' || account || ':instance/i-' || hex AS ResourceId,
                        name AS ResourceName, 'Instance' AS ResourceType, CAST(account AS VARCHAR) AS SubAccountId,
                        CASE WHEN account % 10 < 5 THEN word(owner * 1000003) || '-' || account
                            WHEN account % 10 < 8 THEN 'dep-' || word(owner // 8 * 77) || '-' || account
                            ELSE 'shared-' || account END AS SubAccountName,
                        '1' AS BillingAccountId, 'payer' AS BillingAccountName,
                        ['Compute','Storage','Databases','Queues'][1 + draw(r, 'svc', 4)] AS ServiceName,
                        ['eu-west-1','eu-central-1','us-east-1'][1 + draw(team, 'region', 3) * draw(r, 'away', 4) % 3] AS RegionId,
                        'sku-' || draw(r, 'sku', 40) AS SkuId, nullif(tags, '{{}}') AS Tags, 'Usage' AS ChargeCategory,
                        CAST(NULL AS VARCHAR) AS CommitmentDiscountId, 'USD' AS BillingCurrency,
                        CAST((1 + draw(r, 'size', 1000)) * (CASE WHEN r % 2 = 0
                            THEN 0.4 + 0.0012 * draw(team, {number}, 1000) ELSE 1 END)
                            * (0.9 + 0.0002 * draw(r, {number}, 1000)) / 10 AS DECIMAL(38, 18)) AS EffectiveCost,
                        CAST(1 AS DECIMAL(38, 18)) AS BilledCost,
                        CASE WHEN NOT untagged THEN team_word END AS team,
                        CASE WHEN NOT untagged THEN 'dep-' || word(team // 8 * 77) END AS department
                    FROM described WHERE first_day <= {number} * 2
                ) TO {literal(str(file))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 30720)
                """
            )
    return wanted
