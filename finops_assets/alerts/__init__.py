"""Alerts: what is wrong, told once to everyone who wants it, and told again when it is right. docs/guides/alerts.md."""
