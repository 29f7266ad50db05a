"""Other people's models as `Segmenter`s."""
