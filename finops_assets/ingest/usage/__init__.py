"""Usage below a resource: which pods ran on which node, landed file by file and kept by day."""
