"""Names of classes, and groups of them."""
