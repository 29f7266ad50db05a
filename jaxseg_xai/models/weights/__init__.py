"""Weight files, ours and PyTorch's, into a Flax model; every name checked both ways."""

from jaxseg_xai.models.weights.files import read_weights
from jaxseg_xai.models.weights.fit import build_with_weights, load_weights, write_weights
from jaxseg_xai.models.weights.prefixes import readings

__all__ = ["build_with_weights", "load_weights", "read_weights", "readings", "write_weights"]
