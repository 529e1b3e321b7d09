"""The examples of CONTRIBUTING.md, run as they stand there by someone who has only installed the packages."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import entropy, norm

import gmm_speciation as gs
import model_bridges as mb
from gmm_speciation.estimators import problem_of
from gmm_speciation.estimators.registry import own_estimator

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = {
    re.match(r"# (\w+)\.py", code)[1]: code
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.S)
}


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder of a contributor's own with the examples, from which everything is run."""
    for name, code in EXAMPLES.items():
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_page_is_a_page():
    assert set(EXAMPLES) == {"my_pipeline", "my_estimator"}
    assert len(PAGE.splitlines()) < 90


def test_a_pipeline_family_from_outside(outside):
    """What the network says of x_0 is what diffusers' own scheduler reads from its output."""
    from diffusers import DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=3,
    ).eval()
    scheduler = DDPMScheduler(num_train_timesteps=1000, clip_sample=False)
    unet.save_pretrained(outside / "my-model" / "unet")
    scheduler.save_pretrained(outside / "my-model" / "scheduler")

    denoiser = mb.load("my_pipeline:denoiser")
    assert isinstance(denoiser, mb.Denoiser)
    assert denoiser.event_shape == (1, 8, 8)
    x, label = torch.randn(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    for step in (30, 400, 900):
        abar = scheduler.alphas_cumprod[step]
        with torch.no_grad():
            noise = unet(x, step, class_labels=label).sample
        expected = scheduler.step(noise, step, x).pred_original_sample
        found = denoiser(x / abar.sqrt(), ((1 - abar) / abar).sqrt(), label)
        torch.testing.assert_close(found, expected.to(found), rtol=2e-3, atol=2e-3)

    with pytest.warns(mb.TrustWarning):  # it was never trained
        curve = mb.entropy_curve(denoiser, x, label, sigmas=np.geomspace(0.1, 50, 8))
    assert not curve.trust.ok
    assert float(curve.prior_entropy) == pytest.approx(np.log(3))


def test_an_estimator_from_outside(outside):
    """For two equal classes the nearest mean is the best classifier, of error Phi(-|m| alpha)."""
    mixture, levels = gs.families.symmetric_pair(4), np.array([6.0, 0.0, -2.0, -4.0])
    found = own_estimator("my_estimator:NearestMean")().curve(problem_of(mixture, levels, 4000))
    wrong = norm.sf(np.sqrt(4 * expit(levels)))
    stderr = np.abs(np.log(1 / wrong - 1)) * np.sqrt(wrong * (1 - wrong) / 4000)
    expected = entropy([wrong, 1 - wrong])
    assert np.all(np.abs(found.entropy.value - expected) < 4 * stderr + 1e-3)
    exact = np.asarray(gs.class_entropy(mixture, levels, method="exact").value)
    assert np.all(expected > exact)  # Fano's inequality
