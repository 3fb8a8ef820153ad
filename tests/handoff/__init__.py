"""Hand-off: what this process cannot finish goes on in another engine, once."""
