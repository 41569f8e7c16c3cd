"""Files without a manifest: each Parquet, CSV or gzipped CSV file is a scope of its own.

A file that changes replaces what it gave before; a new file adds. That a file is whole cannot be known
from a list of names, so what can be judged (gzip and Parquet readable to the end) is judged in reading.
"""

from __future__ import annotations

from collections.abc import Iterator

from finops_assets.sources.delivery import Delivery, file_set_hash
from finops_assets.sources.store import Store, matches

SUFFIXES = (".parquet", ".csv", ".csv.gz")


def deliveries(store: Store, pattern: str) -> Iterator[Delivery]:
    """One delivery per matching file."""
    for file in store.list():
        if file.key.endswith(SUFFIXES) and matches(file.key, pattern):
            yield Delivery(scope=file.key, generation=file_set_hash([file]), files=(file,))
