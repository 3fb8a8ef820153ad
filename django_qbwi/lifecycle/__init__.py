"""How a process ends: each file turns one way of it into one call, `DrainCoordinator`. No Django."""
