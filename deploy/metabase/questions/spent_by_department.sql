SELECT charge_date, "BillingCurrency" || ' ' || department AS currency_and_department, sum(effective_cost) AS effective_cost
FROM {main}daily_cost_by_team
WHERE true [[AND "BillingCurrency" = {{currency}}]] [[AND department = {{department}}]]
GROUP BY charge_date, "BillingCurrency", department
ORDER BY charge_date, currency_and_department
