"""The benchmark of estimators of the class entropy, on problems whose truth is known.

tasks        a task: a distribution, its classes, its noise levels
catalogue    the tasks, by id
truth        their truth, to 1e-4 nats or better
cells, worker, isolation, rows, sweep    the runner
scores, boards, coverage, summary   what its rows say
exchange     samples out, answers in
profiles     sizes that fit a time
"""

from gmm_speciation.benchmark.tasks import Law, Task

__all__ = ["Law", "Task"]
