"""The pair of small EDM2 networks of the digits: its recipe and its training."""
