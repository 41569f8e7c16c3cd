"""One interface over a folder, S3, Google Cloud Storage and Azure Blob Storage."""
