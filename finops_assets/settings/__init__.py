"""finops.yaml: a module a section, read and checked with line numbers."""
