"""What a process had when it was killed, told by the next one: QBWI["CRASH_REPORT"]."""
