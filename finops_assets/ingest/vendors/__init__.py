"""Vendors whose costs are fetched: a module each, with `Vendor` as what it says, and the mapping of its costs beside it."""
