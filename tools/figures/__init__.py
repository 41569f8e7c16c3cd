"""Figures in the docs, from benchmarks/results: `python -m tools.figures`, or `make figures`."""
