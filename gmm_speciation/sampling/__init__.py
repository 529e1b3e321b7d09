"""Averages over draws, spread over devices: Monte Carlo and quasi-Monte Carlo."""
