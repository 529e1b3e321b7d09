"""Training that is killed continues as if it had not been."""

import pytest
import torch


class Interrupted(Exception):
    """Stands for the kill of a run."""


def check_continued(run, folder):
    """`run(path, **options)`, of five steps, killed one step past a checkpoint: that step is done again."""

    def interrupt(step, loss):
        if step == 3:
            raise Interrupted

    whole = run(folder / "whole.safetensors", checkpoint_every=2)
    path, steps = folder / "cut.safetensors", []
    with pytest.raises(Interrupted):
        run(path, checkpoint_every=2, report=interrupt)
    continued = run(path, report=lambda step, loss: steps.append(step))
    assert steps == [3, 4, 5]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, continued.state_dict()[name]), name
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == []
