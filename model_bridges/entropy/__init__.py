"""H(C|X_t) of a trained model: estimators as jobs in chunks, windows, trust."""
