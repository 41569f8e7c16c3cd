"""What knows nothing of bills: errors, text, files, processes, waiting."""
