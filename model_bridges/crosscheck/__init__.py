"""A trained model beside the theory of a mixture fitted to its data."""
