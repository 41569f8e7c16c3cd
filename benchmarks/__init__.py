"""Measurements of the platform, as programs that print a table. Not tests, not part of the installed package."""
