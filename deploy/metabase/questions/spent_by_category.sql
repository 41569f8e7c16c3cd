SELECT "ServiceCategory" AS service_category, "BillingCurrency" AS currency, sum(effective_cost) AS effective_cost
FROM {main}daily_cost_by_team
WHERE true [[AND "BillingCurrency" = {{currency}}]] [[AND department = {{department}}]]
GROUP BY "ServiceCategory", "BillingCurrency"
ORDER BY effective_cost DESC
