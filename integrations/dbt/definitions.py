"""The package's models as Dagster assets downstream of the published copy: a code location of its own.

dbt pins other versions of its dependencies than finops_assets, so it has an environment of its own. Dagster joins the two
locations by the key of `published_warehouse`, and makes the models anew whenever that was made.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, DbtProject, dbt_assets

# The dbt of this environment, whatever the process was started with.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
HERE = Path(__file__).resolve().parent
project = DbtProject(project_dir=HERE, profiles_dir=HERE)
if project.manifest_path.exists():
    project.prepare_if_dev()
else:
    project.preparer.prepare(project)


class Translator(DagsterDbtTranslator):
    """Sources have the key of the one asset that writes them all: `meta` in models/sources.yml says which."""

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition[dg.AssetKey]:
        return dg.AutomationCondition.eager()


@dbt_assets(manifest=project.manifest_path, dagster_dbt_translator=Translator())
def marts(context: dg.AssetExecutionContext, dbt: DbtCliResource):
    yield from dbt.cli(["build"], context=context).stream()


defs = dg.Definitions(assets=[marts], resources={"dbt": DbtCliResource(project_dir=project)})
