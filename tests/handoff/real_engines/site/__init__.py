"""The site that queues, here and in an engine, and writes down who ran what."""
