"""PyTorch modules as functions of JAX: their parts, the environment that runs them, operators."""
