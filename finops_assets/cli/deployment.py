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


def deployment_files(kind: Deployment, folder: Path, bills: Path | None, names: Sequence[str]) -> dict[str, str]:
    """By name the files that the deployment of a project adds to its folder; `names` are the project's own.

    Raises:
        FinopsError: bills that lie on this machine are not to be seen from a cluster.
    """
    match kind:
        case "systemd":
            return {"finops.service": _unit(folder)}
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


def _unit(folder: Path) -> str:
    text = shipped("deploy/systemd/finops.service")
    binaries = Path(sys.executable).parent
    for before, now in (
        ("User=finops", f"User={getpass.getuser()}"),
        ("/opt/finops/bin", str(binaries)),
        ("/srv/finops", str(folder.absolute())),
        ("ProtectHome=true", f"ProtectHome={'true' if not folder.absolute().is_relative_to('/home') else 'false'}"),
    ):
        text = text.replace(before, now)
    return text


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
