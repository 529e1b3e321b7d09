"""Acting on trained models in the right window, and measuring what comes of it.

guided           guided trajectories: when they decide, and the identity of guided information
information      the same by scale and by place of an interval, beside a fitted mixture
drawing          draws of a model under a guidance and a sampler, judged
interval_search  the interval of the entropy curve against a grid search of intervals
time_grids       sampler levels equally spaced in information
study            information, intervals and grids from one set of data
removal          a class removed: negative prompting, safe latent, dynamic negative guidance
verdicts         claims with intervals
report           tables, page and record of a study
removal_report   the same of a removal
plotting         pictures of both
"""
