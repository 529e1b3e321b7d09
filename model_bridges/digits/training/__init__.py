"""How the pair of networks was trained: `train.train` writes weights and their card."""
