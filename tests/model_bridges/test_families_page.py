"""The page on diffusers' families: its table is what the pipelines do, its lines run as they stand.

A cell says yes where the thing was done on a tiny pipeline of the class, and equals the pipeline's own
guidance; else the reason.
"""

import inspect
import re
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from tiny_pipeline import close, draw, made_as, write_pipeline
from tiny_pipeline import stable_diffusion as read_pipeline

import model_bridges as mb
from model_bridges import guidance
from model_bridges.guidance import PROMPT, ClassifierFree, interval_callback, on_pipeline
from model_bridges.pipelines import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "families.md"
COLUMNS = ("pipeline", "measure", "callback", "guider", "on_pipeline", "tracked kinds")


def measured(name, pipe):
    given = {} if FAMILIES[name].conditions is None else {"prompts": ["a cat", "a dog"]}
    if name == "FluxPipeline":
        given["size"] = (16, 16)
    denoiser = mb.from_pipeline(pipe, **given)
    x = torch.randn(2, *denoiser.event_shape)
    assert torch.isfinite(denoiser(x, 1.0, torch.zeros(2, dtype=int))).all()
    return "yes, of prompts" if given else "yes, of labels"


def unguided(pipe):
    """Why a pipeline gives nothing to guide with."""
    assert "guidance_scale" not in inspect.signature(type(pipe).__call__).parameters
    return "it has no guidance"


def called(name, pipe, options):
    if name not in guidance.pipelines.PIPELINES:
        return unguided(pipe)
    if name in guidance.pipelines.TWICE:
        with pytest.raises(ValueError, match=f"does not reach the `true_cfg_scale` of {name}"):
            interval_callback(pipe, 0.0, 1e9)
        return "it does not reach `true_cfg_scale`"
    if guidance.pipelines.PIPELINES[name] is None:
        with pytest.raises(ValueError, match=f"no place in {name}"):
            interval_callback(pipe, 0.0, 1e9)
        return "it has no callback"
    callback = interval_callback(pipe, 0.0, 1e9)
    close(draw(pipe, callback_on_step_end=callback, **options), draw(pipe, **options))
    return "yes"


def guider_of(name):
    blocks = getattr(diffusers, name.replace("Pipeline", "AutoBlocks"), None)
    if blocks is None:
        return "it has no modular pipeline"
    named = {spec.name for spec in blocks().expected_components}
    return "yes" if "guider" in named else "its modular pipeline has no guider"


def guided(name, pipe, options):
    """On the pipeline, and by a tracked kind."""
    if name not in guidance.pipelines.PIPELINES:
        return [unguided(pipe)] * 2
    own = draw(pipe, 3.0, **options)
    with on_pipeline(pipe, ClassifierFree(PROMPT, 3.0)):
        close(draw(pipe, 9.0, **options), own)
    with on_pipeline(pipe, guidance.Feedback.tracked(PROMPT, num_steps=6)):
        fed = draw(pipe, 9.0, **options)
    assert torch.isfinite(fed).all()
    assert (fed - own).abs().max() > 1e-3
    flows = "FlowMatch" in type(pipe.scheduler).__name__
    plain = "yes, on `true_cfg_scale`" if name in guidance.pipelines.TWICE else "yes"
    return [plain, "a heuristic: its scheduler is deterministic" if flows else "yes"]


def table(folder):
    rows = [COLUMNS, ["---"] * len(COLUMNS)]
    for name in FAMILIES:
        pipe, options = made_as(name, read_pipeline(folder))
        cells = [measured(name, pipe), called(name, pipe, options), guider_of(name)]
        rows.append([f"`{name}`", *cells, *guided(name, pipe, options)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_table_is_what_the_pipelines_do(tmp_path):
    made = table(write_pipeline(tmp_path))
    written = re.search(r"<!-- families -->\n(.*?)\n?<!-- end -->", PAGE.read_text("utf-8"), re.S)
    assert written[1] == made, f"the table of {PAGE.name} should read:\n{made}"


def test_the_lines_run_as_they_stand():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    names = {}
    torch.manual_seed(0)
    exec(block, names)  # our own page
    low, high = names["interval"]
    assert 0.05 < low < high < 15
    assert names["curve"].trust.ok
    pixels = np.stack([np.asarray(picture) for picture in names["pictures"]])
    assert len(pixels) == 4
    assert pixels.std() > 10
