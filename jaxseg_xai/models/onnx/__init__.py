"""Networks in ONNX files: their operators in JAX, on images whose channels are last."""
