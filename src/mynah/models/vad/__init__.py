"""A small causal network that says, frame by frame, whether there is speech."""
