"""An estate with planted waste: three clouds' FOCUS rows over 16 weeks, and the truth of each resource.

Every case is drawn with noise, and beside each kind of waste stand resources that look like it and are none: a database that works
on three days a month, a standby balancer, a machine that is to come back. Some waste no bill can show; it is planted, too.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

FIRST, DAYS = date(2026, 7, 1), 112
PROVIDERS = {"aws": "AWS", "azure": "Microsoft", "gcp": "Google Cloud", "github": "GitHub"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """What was planted: `waste` is its kind as findings call it; empty: it is none. `shown`: can a bill tell?"""

    source: str
    id: str
    case: str
    waste: str
    shown: bool = True


@dataclass
class Planted:
    """The rows by source, and the truth."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {source: [] for source in PROVIDERS})
    resources: list[Resource] = field(default_factory=list)


@dataclass(frozen=True)
class _Meter:
    service: str
    category: str
    meter: str
    unit: str
    price: float


_EC2, _VPC, _ELB = (
    ("Amazon Elastic Compute Cloud", "Compute"),
    ("Amazon Virtual Private Cloud", "Networking"),
    ("Elastic Load Balancing", "Networking"),
)
_RDS, _S3 = ("Amazon Relational Database Service", "Databases"), ("Amazon Simple Storage Service", "Storage")
_VM, _DISK = ("Virtual Machines", "Compute"), ("Storage", "Storage")
_GCE, _GCS = ("Compute Engine", "Compute"), ("Cloud Storage", "Storage")
METERS = {
    "idle": _Meter(*_VPC, "USE1-PublicIPv4:IdleAddress", "Hrs", 0.005), "in use": _Meter(*_VPC, "USE1-PublicIPv4:InUseAddress", "Hrs", 0.005),
    "static": _Meter("Networking", "Networking", "Static Ip Charge", "hour", 0.01), "external": _Meter("Networking", "Networking", "External IP Charge on a Standard VM", "hour", 0.004),
    "box": _Meter(*_EC2, "BoxUsage:m5.large", "Hrs", 0.096), "db": _Meter(*_RDS, "InstanceUsage:db.r5.large", "Hrs", 0.24), "db disk": _Meter(*_RDS, "RDS:GP2-Storage", "GB-Mo", 0.115),
    "gp2": _Meter(*_EC2, "EBS:VolumeUsage.gp2", "GB-Mo", 0.10), "gp3": _Meter(*_EC2, "EBS:VolumeUsage.gp3", "GB-Mo", 0.08), "snapshot": _Meter(*_EC2, "EBS:SnapshotUsage", "GB-Mo", 0.05),
    "lb": _Meter(*_ELB, "LoadBalancerUsage", "Hrs", 0.0225), "lcu": _Meter(*_ELB, "LCUUsage", "LCU-Hrs", 0.008),
    "nat": _Meter(*_EC2, "NatGateway-Hours", "Hrs", 0.045), "nat bytes": _Meter(*_EC2, "NatGateway-Bytes", "GB", 0.045),
    "endpoint": _Meter(*_VPC, "VpcEndpoint-Hours", "Hrs", 0.01), "endpoint bytes": _Meter(*_VPC, "VpcEndpoint-Bytes", "GB", 0.01),
    "s3": _Meter(*_S3, "TimedStorage-ByteHrs", "GB-Mo", 0.023), "s3 ia": _Meter(*_S3, "TimedStorage-SIA-ByteHrs", "GB-Mo", 0.0125), "s3 get": _Meter(*_S3, "Requests-Tier2", "Requests", 0.0000004),
    "seat": _Meter("GitHub copilot", "AI and Machine Learning", "copilot_business", "user-months", 19), "seat, unused": _Meter("GitHub copilot", "AI and Machine Learning", "copilot_business, seat without activity in 30 days", "user-months", 19),
    "vm": _Meter(*_VM, "D4s v5", "1 Hour", 0.19), "os disk": _Meter(*_DISK, "P10 LRS Disk", "1/Month", 19.7),
    "core": _Meter(*_GCE, "N2 Instance Core running in Frankfurt", "hour", 0.04), "pd": _Meter(*_GCE, "Balanced PD Capacity in Frankfurt", "gibibyte month", 0.12),
    "gcs": _Meter(*_GCS, "Standard Storage Frankfurt", "gibibyte month", 0.023), "gcs read": _Meter(*_GCS, "Regional Standard Class B Operations", "count", 0.0000004),
}  # fmt: skip
TEAMS = ("checkout", "ledger", "warehouse", "vision", "search")


class _Estate:
    """Draws resources one by one; days are numbered from 0."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(f"waste:{seed}")
        self.planted = Planted()
        self.count = 0

    def add(
        self, source: str, case: str, waste: str, name: str = "", shown: bool = True, kind: str = "r"
    ) -> tuple[str, str, str]:
        """Source, id and name of a new resource."""
        self.count += 1
        name = name or f"{kind}-{self.count:05x}"
        identity = f"{source}/{kind}/{self.count:05x}/{name}"
        self.planted.resources.append(Resource(source, identity, case, waste, shown))
        return source, identity, name

    def charge(
        self,
        of: tuple[str, str, str],
        meter: str,
        days: Iterator[int] | range | list[int],
        amount: float = 24.0,
        **more: str,
    ) -> None:
        source, identity, name = of
        found = METERS[meter]
        team = TEAMS[hash_of(name) % len(TEAMS)]
        for number in days:
            quantity = round(amount * (1 + self.draw.uniform(-0.05, 0.05)), 6)
            cost = f"{quantity * found.price:.10f}"
            day = FIRST + timedelta(days=number)
            self.planted.rows[source].append(
                {
                    "BilledCost": cost, "EffectiveCost": cost, "ListCost": cost, "ContractedCost": cost,
                    "BillingCurrency": "EUR" if source == "azure" else "USD", "BillingAccountId": "1", "BillingAccountName": "main",
                    "BillingPeriodStart": f"{day.replace(day=1)}T00:00:00Z", "BillingPeriodEnd": f"{(day.replace(day=1) + timedelta(days=32)).replace(day=1)}T00:00:00Z",
                    "ChargePeriodStart": f"{day}T00:00:00Z", "ChargePeriodEnd": f"{day + timedelta(days=1)}T00:00:00Z",
                    "ChargeCategory": "Usage", "ChargeClass": "", "ChargeDescription": found.meter, "ChargeFrequency": "Usage-Based",
                    "InvoiceIssuerName": PROVIDERS[source], "ProviderName": PROVIDERS[source], "PublisherName": PROVIDERS[source],
                    "PricingQuantity": f"{quantity:f}", "PricingUnit": found.unit, "ConsumedQuantity": f"{quantity:f}", "ConsumedUnit": found.unit,
                    "PricingCategory": "Standard", "SubAccountId": "a-1", "SubAccountName": "prod", "RegionId": "eu-1", "RegionName": "Frankfurt",
                    "ServiceCategory": found.category, "ServiceName": found.service, "SkuMeter": found.meter, "ResourceId": identity,
                    "ResourceName": name, "CapacityReservationId": "", "CapacityReservationStatus": "", "Tags": json.dumps({"team": team}), **more,
                }
            )  # fmt: skip


def hash_of(text: str) -> int:
    return sum(ord(c) * (n + 1) for n, c in enumerate(text))


def plant(seed: int, each: int) -> Planted:
    """The estate: `each` resources of every case."""
    made = _Estate(seed)
    for _ in range(each):
        _addresses(made)
        _databases(made)
        _machines(made)
        _traffic(made)
        _storage(made)
    for _ in range(each):
        _seats(made)
    return made.planted


def _seats(e: _Estate) -> None:
    ended = e.draw.randrange(1, DAYS - 34)
    of = e.add("github", "seat, used no more", "unused seat", kind="seat")
    e.charge(of, "seat", range(ended + 30), 1 / 30)
    e.charge(of, "seat, unused", range(ended + 30, DAYS), 1 / 30)
    of = e.add("github", "seat, used again after a leave", "", kind="seat")
    e.charge(of, "seat", [n for n in range(DAYS) if not ended <= n < ended + 20], 1 / 30)
    e.charge(of, "seat, unused", range(ended, ended + 20), 1 / 30)
    of = e.add("github", "seat, of one without telemetry", "", kind="seat")
    e.charge(of, "seat, unused", range(DAYS), 1 / 30)
    of = e.add("github", "seat, in use", "", kind="seat")
    e.charge(of, "seat", range(DAYS), 1 / 30)


def _addresses(e: _Estate) -> None:
    begin = e.draw.randrange(0, DAYS - 1)
    of = e.add("aws", "address, idle to the end", "idle address", kind="eip")
    e.charge(of, "in use", range(begin))
    e.charge(of, "idle", range(begin, DAYS))
    of = e.add("aws", "address, idle for two days of a move", "", kind="eip")
    moved = e.draw.randrange(2, DAYS - 2)
    e.charge(of, "in use", [n for n in range(DAYS) if not moved <= n < moved + 2])
    e.charge(of, "idle", range(moved, moved + 2))
    of = e.add("aws", "address, idle every night of its machine", "", kind="eip")
    e.charge(of, "in use", range(DAYS), 14)
    e.charge(of, "idle", range(DAYS), 10)
    of = e.add("gcp", "address, reserved and unused", "idle address", kind="address")
    e.charge(of, "static", range(e.draw.randrange(0, DAYS - 1), DAYS))
    of = e.add("gcp", "address, in use", "", kind="address")
    e.charge(of, "external", range(DAYS))
    of = e.add("aws", "capacity reservation, unused to the end", "unused capacity reservation", kind="cr")
    begin = e.draw.randrange(0, DAYS - 1)
    e.charge(of, "box", range(begin), CapacityReservationId=of[1], CapacityReservationStatus="Used")
    e.charge(of, "box", range(begin, DAYS), CapacityReservationId=of[1], CapacityReservationStatus="Unused")


def _databases(e: _Estate) -> None:
    size = e.draw.uniform(1.5, 30)  # GB-months a day
    ended = e.draw.randrange(20, DAYS - 2)
    of = e.add("aws", "database, stopped for good", "cost after use ended", kind="db")
    e.charge(of, "db", range(ended))
    e.charge(of, "db disk", range(DAYS), size)
    of = e.add("aws", "database, stopped at weekends", "", kind="db")
    e.charge(of, "db", [n for n in range(DAYS) if (FIRST + timedelta(days=n)).weekday() < 5])
    e.charge(of, "db disk", range(DAYS), size)
    of = e.add("aws", "database, works on three days a month", "", kind="db")
    e.charge(of, "db", [n for n in range(DAYS) if (FIRST + timedelta(days=n)).day <= 3])
    e.charge(of, "db disk", range(DAYS), size)
    of = e.add("aws", "database, deleted whole", "", kind="db")
    e.charge(of, "db", range(ended))
    e.charge(of, "db disk", range(ended), size)
    of = e.add("aws", "database, always on", "", kind="db")
    e.charge(of, "db", range(DAYS))
    e.charge(of, "db disk", range(DAYS), size)


def _machines(e: _Estate) -> None:
    for source, machine, disk, disk_name in (
        ("azure", "vm", "os disk", "{}_OsDisk_1_0a1b2c"),
        ("gcp", "core", "pd", "{}"),
    ):
        amount = 1 / 30 if source == "azure" else e.draw.uniform(1, 10)
        ended = e.draw.randrange(15, DAYS - 2)
        for case, waste, until, named, shown in (
            ("machine deleted, its disk left", "cost after use ended", ended, True, True),
            ("machine deleted, a disk of another name left", "cost after use ended", ended, False, False),
            ("machine and disk", "", DAYS, True, True),
        ):  # fmt: skip
            of = e.add(source, case, "", kind="machine")
            e.charge(of, machine, range(until))
            left = e.add(
                source, case, waste, disk_name.format(of[2]) if named else f"data-{e.count:05x}", shown, "disk"
            )
            e.charge(left, disk, range(DAYS), amount)
        of = e.add(source, "machine stopped for the holidays, to come back", "", kind="machine")
        e.charge(of, machine, range(DAYS - e.draw.randrange(3, 15)))
        e.charge(
            e.add(source, "machine stopped for the holidays, to come back", "", disk_name.format(of[2]), kind="disk"),
            disk,
            range(DAYS),
            amount,
        )
        of = e.add(source, "machine made anew under its name", "", kind="machine")
        e.charge(of, machine, range(ended - 10))
        again = e.add(source, "machine made anew under its name", "", of[2], kind="machine")
        e.charge(again, machine, range(ended - 8, DAYS))
        e.charge(
            e.add(source, "machine made anew under its name", "", disk_name.format(of[2]), kind="disk"),
            disk,
            range(DAYS),
            amount,
        )
    of = e.add("aws", "volume of a machine that is gone", "cost after use ended", shown=False, kind="vol")
    e.charge(of, "gp3", range(DAYS), e.draw.uniform(1, 10))


def _traffic(e: _Estate) -> None:
    for stays, use, amount in (("lb", "lcu", 3.0), ("nat", "nat bytes", 40.0), ("endpoint", "endpoint bytes", 5.0)):
        ended = e.draw.randrange(10, DAYS - 2)
        of = e.add("aws", f"{stays}, traffic ended", "no traffic", kind=stays)
        e.charge(of, stays, range(DAYS))
        e.charge(of, use, range(ended), amount)
        of = e.add("aws", f"{stays}, never any traffic", "no traffic", kind=stays)
        e.charge(of, stays, range(e.draw.randrange(0, DAYS - 2), DAYS))
        of = e.add("aws", f"{stays}, traffic every ninth day or so", "", kind=stays)
        e.charge(of, stays, range(DAYS))
        e.charge(of, use, [n for n in range(DAYS) if e.draw.random() < 1 / 9], amount)
        of = e.add("aws", f"{stays}, busy", "", kind=stays)
        e.charge(of, stays, range(DAYS))
        e.charge(of, use, range(DAYS), amount)
    of = e.add("aws", "lb, kept for a disaster", "", kind="lb")
    e.charge(of, "lb", range(DAYS))


def _storage(e: _Estate) -> None:
    for source, stays, use in (("aws", "s3", "s3 get"), ("gcp", "gcs", "gcs read")):
        size = e.draw.uniform(3, 300)
        of = e.add(source, f"{stays}, nobody reads it", "storage class", kind="bucket")
        e.charge(of, stays, range(DAYS), size)
        of = e.add(source, f"{stays}, read once a month", "", kind="bucket")
        e.charge(of, stays, range(DAYS), size)
        e.charge(of, use, [n for n in range(DAYS) if (FIRST + timedelta(days=n)).day == 2], 5000)
        of = e.add(source, f"{stays}, read once a quarter", "", kind="bucket")
        e.charge(of, stays, range(DAYS), size)
        e.charge(of, use, [e.draw.randrange(0, 92)], 5000)
        of = e.add(source, f"{stays}, three weeks old", "", kind="bucket")
        e.charge(of, stays, range(DAYS - 21, DAYS), size)
    of = e.add("aws", "s3, in the class for what is seldom read", "", kind="bucket")
    e.charge(of, "s3 ia", range(DAYS), e.draw.uniform(3, 300))
    of = e.add("aws", "volume of the generation before", "previous generation", kind="vol")
    e.charge(of, "gp2", range(e.draw.randrange(0, DAYS - 1), DAYS), e.draw.uniform(1, 10))
    of = e.add("aws", "volume of this generation", "", kind="vol")
    e.charge(of, "gp3", range(DAYS), e.draw.uniform(1, 10))
    of = e.add("aws", "snapshot, forgotten", "old snapshot", kind="snap")
    e.charge(of, "snapshot", range(DAYS), e.draw.uniform(1, 20))
    of = e.add("aws", "snapshot, kept on purpose", "", kind="snap")
    e.charge(of, "snapshot", range(DAYS), e.draw.uniform(1, 20))
    of = e.add("aws", "snapshot, of four weeks' rotation", "", kind="snap")
    begin = e.draw.randrange(0, DAYS - 28)
    e.charge(of, "snapshot", range(begin, begin + 28), e.draw.uniform(1, 20))
