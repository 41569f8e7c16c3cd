"""Oracle Cloud: `FOCUS Reports/YYYY/MM/DD/<file>.csv.gz`, several files a day, without a manifest.

Files are only ever added, and each appears whole: each is a scope of its own. The folder's date is the day
of delivery, not of the charges, so a day's charges come over about two days; `quiet_minutes` can wait
longer. Source of the rules: Oracle, "Cost and Usage Reports".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from finops_assets.ingest.layouts.delivery import Delivery, not_still, unreadable
from finops_assets.ingest.layouts.listing import ListedStore
from finops_assets.storage.scope import file_set_hash

_FOLDER = "FOCUS Reports/"
_NATIVE = "reports/"
_REPORT = re.compile(r"(?:.*/)?\d{4}/\d{2}/\d{2}/[^/]+\.csv(\.gz)?", re.IGNORECASE)


def deliveries(store: ListedStore, quiet_minutes: int = 0, now: datetime | None = None) -> Iterator[Delivery]:
    """One delivery per report."""
    top = store.level().folders
    if _FOLDER not in top and _NATIVE in top:
        problem = (
            f"{_NATIVE} holds OCI's own cost reports and there is no folder {_FOLDER!r}; give the uri of the bucket"
        )
        convert = "set layout: oci-cost-report to have them converted"
        yield unreadable(_NATIVE, _NATIVE, f"{problem}, or of a copy that has {_FOLDER!r}, or {convert}")
        return
    # The same bucket holds the reports in Oracle's own format; they are the same cost.
    for file in store.list(_FOLDER if _FOLDER in top else ""):
        if _REPORT.fullmatch(file.key):
            yield Delivery(
                scope=file.key,
                generation=file_set_hash([file]),
                files=(file,),
                problems=(
                    *([file.problem] if file.problem else ()),
                    *not_still([file], quiet_minutes, now or datetime.now(UTC)),
                ),
                verified=False,
            )
