"""What `finops init` writes so that a project is left running: a service of systemd, Compose, or an overlay for Kubernetes."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Literal

from finops_assets.base.errors import FinopsError
from finops_assets.ingest.inspect import Inspection

EXPORTS, STATE = PurePosixPath("/exports"), PurePosixPath("/state")
"""Where a container has the bills of its machine, and what it writes."""
HOMES, TEMPORARY = (Path("/home"), Path("/root"), Path("/run/user")), (Path("/tmp"), Path("/var/tmp"))
"""What systemd hides from a service with ProtectHome and PrivateTmp."""
_SHARED = ("postgres/dagster.yaml", "compose/workspace.yaml")
_OF_COMPOSE = ("compose.yaml", *_SHARED)
_OF_KUBERNETES = ("kustomization.yaml", "kubernetes/finops.yaml", "kubernetes/postgres.yaml", *_SHARED)
_BUILD = "  build: {context: .., dockerfile: deploy/image/Containerfile}\n"


Deployment = Literal["systemd", "compose", "kubernetes"]
"""Who keeps it running. The last two in containers, that write to /state alone."""


def bills_of_this_machine(found: Sequence[Inspection]) -> Path | None:
    """The folder that holds all bills which lie on this machine; None: all lie in stores."""
    local = [Path(each.uri).absolute() for each in found if "://" not in each.uri]
    folders = [place.parent if place.is_file() else place for place in local]
    return Path(os.path.commonpath(folders)) if folders else None


def within(uri: str, bills: Path | None) -> str:
    """A source's place as a container names it, where the folder of the bills is mounted."""
    if bills is None or "://" in uri:
        return uri
    return str(EXPORTS / Path(uri).absolute().relative_to(bills).as_posix())


def deployment_files(
    kind: Deployment, folder: Path, lake: Path | None, bills: Path | None, any_store: bool, names: Sequence[str]
) -> dict[str, str]:
    """By name the files that the deployment of a project adds to its folder; `names` are the project's own.

    `lake`: where on this machine it lies; `any_store`: are there buckets, whose credentials may lie in the user's home?

    Raises:
        FinopsError: bills that lie on this machine are not to be seen from a cluster.
    """
    match kind:
        case "systemd":
            return {"finops.service": _unit(folder, lake, bills, any_store)}
        case "compose":
            kept = {f"deploy/{name}": shipped(f"deploy/{name}") for name in _OF_COMPOSE}
            kept["deploy/compose.yaml"] = kept["deploy/compose.yaml"].replace(_BUILD, "")
            places = {
                "FINOPS_PROJECT": folder.absolute(),
                "FINOPS_EXPORTS": bills or folder.absolute() / "no_bills_here",
            }
            return kept | {"deploy/.env": "".join(f"{name}={place}\n" for name, place in places.items())}
        case "kubernetes":
            if bills is not None:
                raise FinopsError(
                    f"bills lie in {bills}, which no pod sees; name the bucket that they are delivered to with --source"
                )
            kept = {f"deploy/{name}": shipped(f"deploy/{name}") for name in _OF_KUBERNETES}
            return kept | {"kustomization.yaml": _overlay(names)}


NEXT: Mapping[Deployment, tuple[str, ...]] = {
    "systemd": ("sudo cp finops.service /etc/systemd/system/", "sudo systemctl enable --now finops"),
    "compose": (
        "export DAGSTER_PG_PASSWORD=…           # FINOPS_IMAGE, if the image has another name than finops_assets",
        "docker compose -f deploy/compose.yaml up -d",
    ),
    "kubernetes": (
        "echo postgresql-password=… > postgres.env",
        "kubectl create namespace finops && kubectl apply -k .   # first: the image's address in kustomization.yaml",
    ),
}
"""What is to be done then, by a person."""


def _unit(folder: Path, lake: Path | None, bills: Path | None, any_store: bool) -> str:
    """The service, with no more protection than the places that it needs allow: one that hides them could not start."""
    project, binaries = folder.absolute(), Path(sys.executable).parent
    written = [project]
    if lake is not None and not lake.is_relative_to(project):
        lake.mkdir(parents=True, exist_ok=True)  # a place to write to that is not there ends the start
        written.append(lake)
    # In a virtual environment the interpreter itself lies elsewhere.
    needed = [*written, binaries, Path(sys.base_prefix), *([bills] if bills else [])]
    in_home = [place for place in needed if _lies_in(place, HOMES)]
    if any_store and _lies_in(Path.home(), HOMES):
        in_home.append(Path.home())
    in_tmp = [place for place in needed if _lies_in(place, TEMPORARY)]
    if in_tmp:
        written += [place for place in TEMPORARY if place.is_dir()]
    text = shipped("deploy/systemd/finops.service")
    for before, now in (
        ("User=finops", f"User={getpass.getuser()}"),
        ("WorkingDirectory=/srv/finops", f"WorkingDirectory={_literal(project)}"),
        ("ReadWritePaths=/srv/finops", f"ReadWritePaths={' '.join(map(_quoted, dict.fromkeys(written)))}"),
        ("/opt/finops/bin/finops", _quoted(binaries / "finops")),
        ("ProtectHome=true", _weaker("ProtectHome", "read-only", in_home)),
        ("PrivateTmp=true", _weaker("PrivateTmp", "false", in_tmp)),
    ):
        text = text.replace(before, now)
    return text


def _weaker(setting: str, value: str, because: Sequence[Path]) -> str:
    """A protection as it is shipped, or where something lies behind it the weaker value, and for what."""
    if not because:
        return f"{setting}=true"
    return f"# Not true: it would hide {', '.join(map(str, dict.fromkeys(because)))}\n{setting}={value}"


def _lies_in(place: Path, folders: Sequence[Path]) -> bool:
    """Is the place, or what a link on the way to it leads to, within one of the folders?"""
    return any(way.is_relative_to(end) for way in (place, place.resolve()) for f in folders for end in (f, f.resolve()))


def _literal(place: Path) -> str:
    return str(place).replace("%", "%%")


def _quoted(place: Path) -> str:
    """A path as one word of a unit's list."""
    return f'"{_literal(place)}"' if " " in str(place) else _literal(place)


def _overlay(names: Sequence[str]) -> str:
    return f"""# What deploy/ has, with this project's files: kubectl apply -k .   docs/guides/deployment.md
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: finops
resources: [deploy]
images: [{{name: finops_assets, newName: registry.example.com/finops_assets, newTag: latest}}]
configMapGenerator:
  - {{name: finops-config, files: [{", ".join(names)}]}}
secretGenerator:
  - {{name: finops-postgres, envs: [postgres.env]}}   # postgresql-password=…; never commit it
"""


def shipped(name: str) -> str:
    """A file of the project's own folder: in an installed package it lies beside the code."""
    packed = files("finops_assets") / "project" / name
    beside = Path(__file__).parents[2] / name
    return packed.read_text(encoding="utf-8") if packed.is_file() else beside.read_text(encoding="utf-8")
