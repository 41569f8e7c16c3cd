"""Whether figures may be trusted: gates, conformance to FOCUS, reconciliation."""
