"""Small networks, the only part that imports flax and optax.

networks     trunk, denoiser, classifier
data         labelled clean data and the scales of a noisy state
training     one loop, with a cache
denoising    class-conditional denoisers
classifying  classifiers and critics
"""
