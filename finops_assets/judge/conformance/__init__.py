"""Does a data set keep to FOCUS? The rules as data, the judging in SQL, and the report for people and CI."""
