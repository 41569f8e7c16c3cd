"""Run by Superset's Python: import a bundle as a person does, by the API, run the query of each chart, and tell it as JSON."""

# ruff: noqa: E402
from __future__ import annotations

import json
import logging
import sys

logging.disable(logging.WARNING)

from superset.app import create_app  # type: ignore[import-not-found]

app = create_app()
with app.app_context():
    from superset.extensions import db, security_manager  # type: ignore[import-not-found]

    admin = security_manager.find_role("Admin")
    security_manager.add_user("admin", "A", "B", "a@example.com", admin, password="admin")
    db.session.commit()
client = app.test_client()
given = {"username": "admin", "password": "admin", "provider": "db"}
token = client.post("/api/v1/security/login", json=given).get_json()["access_token"]
said = {"headers": {"Authorization": f"Bearer {token}"}}
said["headers"]["X-CSRFToken"] = client.get("/api/v1/security/csrf_token/", **said).get_json()["result"]
with open(sys.argv[1], "rb") as file:
    imported = client.post(
        "/api/v1/dashboard/import/",
        data={"formData": (file, "overview.zip"), "passwords": sys.argv[2]},
        content_type="multipart/form-data",
        **said,
    )
charts = {}
for listed in client.get("/api/v1/chart/?q=(page_size:100)", **said).get_json()["result"]:
    chart = client.get(f"/api/v1/chart/{listed['id']}", **said).get_json()["result"]
    asked = json.loads(chart["query_context"])
    answer = client.post("/api/v1/chart/data", json=asked, **said)
    charts[chart["slice_name"]] = {
        "params": json.loads(chart["params"]),
        "asked": asked["queries"][0],
        "status": answer.status_code,
        "results": answer.get_json().get("result", answer.get_json()),
    }
# What would have to add currencies: the metric without a group.
only = next(
    c["id"]
    for c in client.get("/api/v1/dataset/", **said).get_json()["result"]
    if c["table_name"] == "finops_daily_cost"
)
query = {"metrics": ["effective", "billed"], "columns": [], "filters": []}
mixed = client.post(
    "/api/v1/chart/data", json={"datasource": {"id": only, "type": "table"}, "queries": [query]}, **said
)
dashboard = client.get("/api/v1/dashboard/finops-overview", **said).get_json()["result"]
shown = client.get(f"/api/v1/dashboard/{dashboard['id']}/charts", **said).get_json()["result"]
print()
print(
    json.dumps(
        {
            "imported": [imported.status_code, imported.get_json()],
            "charts": charts,
            "mixed": mixed.get_json()["result"][0]["data"],
            "filters": json.loads(dashboard["json_metadata"])["native_filter_configuration"],
            "shown": [each["slice_name"] for each in shown],
        },
        default=str,
    )
)
