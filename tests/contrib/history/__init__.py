"""The history of what ended badly, or moved."""
