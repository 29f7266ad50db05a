"""Whether ours is right: against PyTorch peers, frozen references and published outputs."""
