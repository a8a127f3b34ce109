"""Whisper: A. Radford et al., "Robust speech recognition via large-scale weak supervision",
arXiv:2212.04356."""
