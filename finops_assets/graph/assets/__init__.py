"""The asset graph: thin functions that call the core and say what came out."""
