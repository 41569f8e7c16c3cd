"""The fault harness: real processes are killed, starved, hindered and fed with bad input, and what comes out is compared
with the truth by an independent reader. `python -m finops_assets_tests.faults` prints the table of docs/reference/reliability.md.
"""
