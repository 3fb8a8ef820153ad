"""The commands: `qbwi`."""
