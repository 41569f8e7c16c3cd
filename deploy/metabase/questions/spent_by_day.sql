SELECT charge_date, "BillingCurrency" AS currency, sum(effective_cost) AS effective_cost
FROM {main}daily_cost_by_team
WHERE true [[AND "BillingCurrency" = {{currency}}]] [[AND department = {{department}}]]
GROUP BY charge_date, "BillingCurrency"
ORDER BY charge_date, currency
