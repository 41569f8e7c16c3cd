SELECT
    department,
    team,
    currency,
    effective_cost,
    effective_cost_compared,
    effective_cost_before,
    effective_cost_compared - effective_cost_before AS change,
    change_percent,
    days,
    days_before
FROM {reports}cost_by_team
WHERE true [[AND currency = {{currency}}]] [[AND department = {{department}}]]
ORDER BY currency, effective_cost DESC
