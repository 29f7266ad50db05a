"""What nnU-Net v2 has trained, opened from its results folder."""

from jaxseg_xai.models.nnunet.load import from_nnunet

__all__ = ["from_nnunet"]
