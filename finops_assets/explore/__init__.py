"""The explorer: the published copy as pages that a person can walk through, read only."""
