"""Whisper (A. Radford et al., arXiv:2212.04356) on ONNX Runtime."""
