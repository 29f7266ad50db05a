"""Benchmarks: `python -m benchmarks.agreement`."""
