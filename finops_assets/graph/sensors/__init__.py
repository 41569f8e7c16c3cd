"""What starts runs and sends alerts by itself."""
