-- Each currency by itself: an amount of one is never added to an amount of another.
with cost as (
    select
        cast(date_trunc('month', charge_date) as date) as month,
        department,
        team,
        "ServiceCategory" as service_category,
        "BillingCurrency" as billing_currency,
        cast(sum(billed_cost) as numeric(38, 18)) as billed_cost,
        cast(sum(effective_cost) as numeric(38, 18)) as effective_cost
    from {{ source('finops', 'daily_cost_by_team') }}
    group by 1, 2, 3, 4, 5
),

coverage as (
    select
        cast(date_trunc('month', charge_date) as date) as month,
        sum(source_days_not_built) as source_days_not_built,
        count(*) as days_covered
    from {{ ref('finops_daily_coverage') }}
    group by 1
)

select
    cost.month,
    cost.department,
    cost.team,
    cost.service_category,
    cost.billing_currency,
    cost.billed_cost,
    cost.effective_cost,
    cast(coalesce(coverage.source_days_not_built, 0) as bigint) as source_days_not_built,
    cast(
        cast(cost.month + interval '1 month' as date) - cost.month - coalesce(coverage.days_covered, 0) as bigint
    ) as days_never_run
from cost
left join coverage on cost.month = coverage.month
