"""Writes what is made from the declared tables for other tools: `python -m tools.integrations`."""
