"""The history: what ended badly, or moved, is kept in one table over deploys."""
