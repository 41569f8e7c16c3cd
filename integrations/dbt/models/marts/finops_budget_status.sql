{{ config(enabled=var('finops_budgets')) }}
select
    budget,
    department,
    team,
    dimensions,
    basis,
    currency,
    period,
    period_start,
    period_end,
    through,
    amount,
    spent,
    cast(amount - spent as numeric(38, 18)) as remaining,
    forecast,
    cast(amount - forecast as numeric(38, 18)) as remaining_at_end,
    severity,
    reason,
    days_missing,
    problem
from {{ source('finops', 'budget_status') }}
