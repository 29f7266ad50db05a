"""Numerical building blocks in JAX: convolutions, blocks, dilation, Dice, optimisers."""
