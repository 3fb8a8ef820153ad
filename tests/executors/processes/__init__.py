"""Tests of helper processes, with real ones: their site is plain, so that they start fast."""
