"""A synthetic cloud estate: three clouds' charges in their own dialects, and the truth about them.

Deterministic by seed, made with DuckDB in sets, from a thousand to a hundred million rows. Used by the
demonstration, the tests and the benchmarks.
"""

from finops_assets.demo.estate import Estate
from finops_assets.demo.spec import INCIDENT_KINDS, SOURCES, EstateSpec, Incident

__all__ = ["INCIDENT_KINDS", "SOURCES", "Estate", "EstateSpec", "Incident"]
