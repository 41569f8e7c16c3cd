{{ config(meta={'dagster': {'ref': {'name': 'finops_monthly_cost'}}}) }}
-- To the last digit, by month and currency.
with months as (
    select month, billing_currency, sum(billed_cost) as billed_cost, sum(effective_cost) as effective_cost
    from {{ ref('finops_monthly_cost') }}
    group by 1, 2
),

rollup_of_months as (
    select
        cast(date_trunc('month', charge_date) as date) as month,
        "BillingCurrency" as billing_currency,
        sum(billed_cost) as billed_cost,
        sum(effective_cost) as effective_cost
    from {{ source('finops', 'daily_cost_by_team') }}
    group by 1, 2
)

select months.*
from months
full outer join rollup_of_months as r
    on months.month = r.month and months.billing_currency = r.billing_currency
where months.month is null or r.month is null
    or months.billed_cost <> r.billed_cost
    or months.effective_cost <> r.effective_cost
