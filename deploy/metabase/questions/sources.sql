SELECT
    source,
    max(CASE WHEN state = 'built' THEN charge_date END) AS newest_day_built,
    sum(CASE WHEN state = 'built' THEN 1 ELSE 0 END) AS days_built,
    sum(CASE WHEN state = 'held' THEN 1 ELSE 0 END) AS days_held,
    sum(CASE WHEN state = 'awaited' THEN 1 ELSE 0 END) AS days_awaited
FROM {main}coverage
GROUP BY source
ORDER BY source
