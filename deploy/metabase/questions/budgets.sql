SELECT
    budget,
    period,
    basis,
    currency,
    amount,
    spent,
    spent_percent,
    forecast,
    forecast_percent,
    severity,
    reason,
    through,
    days_missing,
    problem
FROM {main}budget_status
WHERE true [[AND currency = {{currency}}]]
ORDER BY currency, spent_percent DESC
