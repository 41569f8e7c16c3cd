"""What is wasted in an estate on purpose, and beside it what looks like it and is in use: each as its bill shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from finops_assets.demo.spec import EstateSpec


@dataclass(frozen=True)
class Meter:
    """What is charged, as the provider calls it; the price of one unit in the billing currency."""

    text: str
    unit: str
    price: str


@dataclass(frozen=True)
class Run:
    """A meter that goes on from ``since`` days before the estate's last day; ``until``: and so many before it ends."""

    meter: Meter
    quantity: int
    since: int
    until: int = 0
    reservation: str = ""
    """Of capacity: Used or Unused."""


@dataclass(frozen=True)
class Planted:
    """A resource beside the ordinary ones. ``waste``: its kind as findings call it; empty: it is none.

    Resources of one ``group`` have owner, account and region in common; of group 3 the tags are lost.
    """

    source: str
    group: int
    name: str
    service: tuple[str, str, str]
    """ServiceName, ServiceCategory, ServiceSubcategory."""
    kind: str
    pattern: str
    runs: tuple[Run, ...]
    waste: str = ""
    certainty: str = ""


_EC2 = ("Amazon Elastic Compute Cloud", "Compute", "Virtual Machines")
_EBS = ("Amazon Elastic Block Store", "Storage", "Block Storage")
_VPC = ("Amazon Virtual Private Cloud", "Networking", "Network Infrastructure")
_ELB = ("Elastic Load Balancing", "Networking", "Application Networking")
_RDS = ("Amazon Relational Database Service", "Databases", "Relational Databases")
_S3 = ("Amazon Simple Storage Service", "Storage", "Object Storage")
_VM, _AZURE_DISK = (
    ("Virtual Machines", "Compute", "Virtual Machines"),
    ("Azure Managed Disks", "Storage", "Block Storage"),
)
_GCE, _GOOGLE_NET = (
    ("Compute Engine", "Compute", "Virtual Machines"),
    ("Networking", "Networking", "Network Infrastructure"),
)

_IDLE, _IN_USE = (
    Meter("EUC1-PublicIPv4:IdleAddress", "Hrs", "0.005"),
    Meter("EUC1-PublicIPv4:InUseAddress", "Hrs", "0.005"),
)
_BOX, _DATABASE = (
    Meter("EUC1-BoxUsage:m5.large", "Hrs", "0.096"),
    Meter("EUC1-InstanceUsage:db.r5.large", "Hrs", "0.24"),
)
_DATABASE_DISK = Meter("EUC1-RDS:GP2-Storage", "GB-Mo", "0.115")
_GP2, _GP3 = Meter("EUC1-EBS:VolumeUsage.gp2", "GB-Mo", "0.1"), Meter("EUC1-EBS:VolumeUsage.gp3", "GB-Mo", "0.08")
_NAT, _NAT_BYTES = Meter("EUC1-NatGateway-Hours", "Hrs", "0.045"), Meter("EUC1-NatGateway-Bytes", "GB", "0.045")
_BALANCER, _LCU = Meter("EUC1-LoadBalancerUsage", "Hrs", "0.0225"), Meter("EUC1-LCUUsage", "LCU-Hrs", "0.008")
_STANDARD, _SELDOM = (
    Meter("EUC1-TimedStorage-ByteHrs", "GB-Mo", "0.023"),
    Meter("EUC1-TimedStorage-SIA-ByteHrs", "GB-Mo", "0.0125"),
)
_B1, _ULTRA = (
    Meter("Virtual Machines BS Series - B1ms", "1 Hour", "0.02"),
    Meter("Ultra Disks - Ultra LRS Provisioned Capacity", "1 GiB/Hour", "0.00016"),
)
_CORE, _PD = (
    Meter("N2 Instance Core running in Frankfurt", "hour", "0.04"),
    Meter("Balanced PD Capacity in Frankfurt", "gibibyte month", "0.12"),
)
_STATIC = Meter("Static Ip Charge", "hour", "0.01")

_ADDRESS = "arn:aws:ec2:{region}:{account}:elastic-ip/eipalloc-{name}"
_DB = "arn:aws:rds:{region}:{account}:db:{name}"
_VOLUME = "arn:aws:ec2:{region}:{account}:volume/vol-{name}"
_NAT_GATEWAY = "arn:aws:ec2:{region}:{account}:natgateway/nat-{name}"
_LOAD_BALANCER = "arn:aws:elasticloadbalancing:{region}:{account}:loadbalancer/app/{name}"
_BUCKET = "arn:aws:s3:::{name}"
_RESERVATION = "arn:aws:ec2:{region}:{account}:capacity-reservation/cr-{name}"
_ARM = "/subscriptions/{account}/resourcegroups/rg-{region}/providers/microsoft.compute/"
_GOOGLE = "//compute.googleapis.com/projects/{account}/"
_EVER = 10_000

PLANTED: tuple[Planted, ...] = (
    Planted(
        "aws", 0, "address-of-the-old-gateway", _VPC, "Elastic IP", _ADDRESS,
        (Run(_IN_USE, 24, _EVER, 41), Run(_IDLE, 24, 40)), "idle address", "high",
    ),
    Planted("aws", 0, "address-of-the-gateway", _VPC, "Elastic IP", _ADDRESS, (Run(_IN_USE, 24, _EVER),)),
    Planted(
        "aws", 1, "db-of-last-year", _RDS, "DB instance", _DB,
        (Run(_DATABASE, 24, _EVER, 26), Run(_DATABASE_DISK, 10, _EVER)), "cost after use ended", "high",
    ),
    Planted(
        "aws", 2, "capacity-for-a-launch", _EC2, "Capacity reservation", _RESERVATION,
        (Run(_BOX, 24, _EVER, 21, "Used"), Run(_BOX, 24, 20, 0, "Unused")), "unused capacity reservation", "high",
    ),
    Planted("aws", 4, "volume-of-the-wiki", _EBS, "Volume", _VOLUME, (Run(_GP2, 20, _EVER),), "previous generation", "high"),
    Planted("aws", 4, "volume-of-the-search", _EBS, "Volume", _VOLUME, (Run(_GP3, 20, _EVER),)),
    Planted(
        "aws", 5, "nat-of-the-old-network", _VPC, "NAT gateway", _NAT_GATEWAY,
        (Run(_NAT, 24, _EVER), Run(_NAT_BYTES, 40, _EVER, 45)), "no traffic", "medium",
    ),
    Planted(
        "aws", 5, "balancer-of-the-trial", _ELB, "Load balancer", _LOAD_BALANCER,
        (Run(_BALANCER, 24, _EVER),), "no traffic", "medium",
    ),
    Planted(
        "aws", 6, "balancer-of-the-shop", _ELB, "Load balancer", _LOAD_BALANCER,
        (Run(_BALANCER, 24, _EVER), Run(_LCU, 30, _EVER)),
    ),
    Planted(
        "aws", 3, "exports-of-a-tool-that-is-gone", _S3, "Bucket", _BUCKET,
        (Run(_STANDARD, 100, _EVER),), "storage class", "medium",
    ),
    Planted("aws", 6, "archive", _S3, "Bucket", _BUCKET, (Run(_SELDOM, 200, _EVER),)),
    Planted("azure", 5, "build-7", _VM, "Virtual machine", f"{_ARM}virtualmachines/{{name}}", (Run(_B1, 24, _EVER, 48),)),
    Planted(
        "azure", 5, "build-7_DataDisk_0", _AZURE_DISK, "Disk", f"{_ARM}disks/{{name}}",
        (Run(_ULTRA, 3072, _EVER),), "cost after use ended", "medium",
    ),
    Planted("gcp", 0, "trainer-2", _GCE, "Instance", f"{_GOOGLE}instances/{{name}}", (Run(_CORE, 96, _EVER, 31),)),
    Planted(
        "gcp", 0, "trainer-2", _GCE, "Disk", f"{_GOOGLE}disks/{{name}}",
        (Run(_PD, 20, _EVER),), "cost after use ended", "medium",
    ),
    Planted(
        "gcp", 1, "address-of-the-pilot", _GOOGLE_NET, "Address", f"{_GOOGLE}addresses/{{name}}",
        (Run(_STATIC, 24, 50),), "idle address", "high",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Waste:
    """What is true of one planted resource that is waste. ``last_use``: the last day that shows it in use; None: none does."""

    source: str
    name: str
    kind: str
    certainty: str
    last_use: date | None
    first_day: date
    cost_a_day: Decimal


def planted_of(spec: EstateSpec, source: str) -> tuple[Planted, ...]:
    """What is planted in one source, in the order of their numbers."""
    return tuple(each for each in PLANTED if each.source == source) if spec.waste else ()


def run_days(spec: EstateSpec, run: Run) -> tuple[date, date]:
    """First and last day (inclusive) of a run within the estate; the first may be the later one: there is none."""
    last = spec.last_day
    return max(spec.first_day, last - timedelta(days=run.since)), last - timedelta(days=run.until)


def true_waste(spec: EstateSpec) -> tuple[Waste, ...]:
    """All that is wasted: each has one run that goes on, and those that ended show the use."""
    found = []
    for each in PLANTED if spec.waste else ():
        if not each.waste:
            continue
        [left] = [run for run in each.runs if run.until == 0]
        used = [run for run in (*each.runs, *_machine(each)) if run.until > 0]
        last_use = max((run_days(spec, run)[1] for run in used), default=None)
        begun = run_days(spec, left)[0]
        since = begun if last_use is None else max(begun, last_use + timedelta(days=1))
        cost = Decimal(left.meter.price) * left.quantity
        found.append(Waste(each.source, each.name, each.waste, each.certainty, last_use, since, cost))
    return tuple(found)


def _machine(disk: Planted) -> tuple[Run, ...]:
    """The runs of the machine that a disk bears the name of."""
    return next(
        (
            m.runs
            for m in PLANTED
            if (m.source, m.group) == (disk.source, disk.group) and m is not disk and disk.name.startswith(m.name)
        ),
        (),
    )
