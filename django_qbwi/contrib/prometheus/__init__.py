"""Metrics of the background work for Prometheus, with prometheus-client, in single and in multiprocess mode."""
