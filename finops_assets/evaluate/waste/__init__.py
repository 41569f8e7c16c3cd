"""Waste that the bill itself shows."""
