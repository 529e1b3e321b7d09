"""The posterior of a class along the noise path of an image, and what is read from it."""
