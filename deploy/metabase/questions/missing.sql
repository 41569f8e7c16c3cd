SELECT charge_date, source, state, shown, since, reason
FROM {main}coverage
WHERE state <> 'built'
ORDER BY charge_date DESC, source
