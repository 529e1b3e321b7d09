"""The protocol of a denoiser in EDM coordinates, and the denoisers that need no file of weights."""
