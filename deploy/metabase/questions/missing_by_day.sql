SELECT charge_date, source, sum(CASE WHEN state <> 'built' THEN 1 ELSE 0 END) AS missing
FROM {main}coverage
GROUP BY charge_date, source
ORDER BY charge_date, source
