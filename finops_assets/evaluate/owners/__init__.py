"""Who probably owns what nobody tagged: evidence, confidence learned from the tagged, and people's decisions."""
