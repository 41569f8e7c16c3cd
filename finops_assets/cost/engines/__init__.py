"""Other engines than this machine's DuckDB, for the same statements: rendering, adapters, and the work done on them.

Needs the extra of the engine: `clickhouse` or `spark`. What runs where: docs/guides/engines.md.
"""
