"""The pages, a module each: what is asked of the copy, and in which tables and charts it is shown."""
