"""A site whose items wait for their cancellation, to be looked at from outside."""
