"""Long computations as jobs in chunks: resumable, and shared by processes."""
