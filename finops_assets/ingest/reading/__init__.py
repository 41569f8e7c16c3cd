"""Files of any dialect as one relation of canonical FOCUS rows."""
