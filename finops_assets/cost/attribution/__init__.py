"""Tag set -> dimensions, with the reason for each."""
