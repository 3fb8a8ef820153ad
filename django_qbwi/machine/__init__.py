"""Threads, locks and stacks as we need them, and every private name that we borrow; standard library only."""
