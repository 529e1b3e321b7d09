"""What can be wrong with weights and with what reads them."""


class UnsafeCheckpointError(ValueError):
    """A checkpoint file is missing, damaged, or asks for something that reading tensors does not need."""


class CheckpointError(ValueError):
    """A file of weights or of training state is missing, damaged, or not the one asked for."""


class MissingExtraError(ImportError):
    """A package of an optional extra is not installed."""
