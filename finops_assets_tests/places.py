"""Where things are: this project, and the inputs beside it that are not part of it."""

from pathlib import Path

PROJECT = Path(__file__).parents[1]
SHARED = PROJECT.parent / "shared"
"""Real billing files and cases; tests that use them skip where they are not."""
