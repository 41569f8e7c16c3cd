"""The pages of docs/reference that the code writes: `python -m tools.reference`, a part of `make docs`."""
