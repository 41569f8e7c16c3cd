"""Bills that are not FOCUS, and dialects of FOCUS, turned into the canonical columns. The mappings are data."""
