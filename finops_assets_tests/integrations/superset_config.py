"""Superset as the tests run it. Its own database is the one that $FINOPS_SUPERSET_DB names."""

import os

SECRET_KEY = "of a test, and long enough to be accepted as one"
SQLALCHEMY_DATABASE_URI = f"sqlite:///{os.environ['FINOPS_SUPERSET_DB']}"
PREVENT_UNSAFE_DB_CONNECTIONS = False  # DuckDB is a file on this machine: docs/guides/bi-tools.md
