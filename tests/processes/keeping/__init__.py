"""The site of the harness with a history of what ended badly."""
