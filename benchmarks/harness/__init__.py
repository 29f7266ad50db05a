"""Timing, records, comparing and showing them."""
