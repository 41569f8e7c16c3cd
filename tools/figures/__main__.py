"""Write the figures into the pages."""

from __future__ import annotations

from tools.figures.fill import filled, pages

if __name__ == "__main__":
    for page in pages():
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text), encoding="utf-8")
