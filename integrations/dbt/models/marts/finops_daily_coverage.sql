-- Days that are not here were never run: nothing is known of them.
select
    charge_date,
    cast(count(*) as bigint) as sources,
    cast(sum(case when state = 'built' then 0 else 1 end) as bigint) as source_days_not_built,
    cast(sum(case when state = 'held' then 1 else 0 end) as bigint) as sources_held,
    cast(sum(case when state = 'awaited' then 1 else 0 end) as bigint) as sources_awaited,
    string_agg(case when state <> 'built' then source || ' is ' || state || ': ' || coalesce(reason, '') end, '; ' order by source) as reasons
from {{ source('finops', 'coverage') }}
group by charge_date
