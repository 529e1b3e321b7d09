"""The one error of reading a checkpoint."""


class UnsafeCheckpointError(ValueError):
    """A checkpoint file is missing, damaged, or asks for something that reading tensors does not need."""
