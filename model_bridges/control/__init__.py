"""Acting on trained models in the right window, and measuring what comes of it.

judged           a model with data and a judge of its pictures
guided           guided trajectories: when they decide, and the identity of guided information
interval_search  the interval of the entropy curve against a grid search of intervals
time_grids       sampler levels equally spaced in information
removal          a class removed: negative prompting, safe latent, dynamic negative guidance
verdicts         claims with intervals
"""
