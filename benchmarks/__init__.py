"""What measures speed: ratios against the standard library, from interleaved runs in one process. Never a test."""
