"""Carriers for other libraries, for QBWI["CONTEXT"]; none of them is imported unless it is listed there."""
