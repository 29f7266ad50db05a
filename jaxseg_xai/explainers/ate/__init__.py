"""Average treatment effects of input blocks (PdCR)."""
