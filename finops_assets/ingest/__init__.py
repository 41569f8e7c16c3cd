"""From delivered files to raw days: listing, reading, converting, landing."""
