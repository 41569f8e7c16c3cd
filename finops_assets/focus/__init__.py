"""The FOCUS specification as data and functions: versions, columns, money, tags, dialects."""
