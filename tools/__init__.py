"""What the project needs and nobody who runs it: the pages of docs/reference, figures in the docs."""
