"""The hand-off with real servers, real engines and their own workers."""
