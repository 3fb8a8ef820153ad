"""Many hosts: each process of the site writes what it runs into one table, and takes cancel requests from it."""
