"""Contracts that everything else is written against; imports nothing of ours."""
