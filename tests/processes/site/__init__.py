"""A small Django site whose items and requests report to a file what becomes of them."""
