"""The core: tokens, items, the scheduler and its executors. Standard library only, no Django."""
