"""The channel between processes, without Django's settings and without other processes."""
