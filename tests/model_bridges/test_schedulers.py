"""Every scheduler class of the installed diffusers: known and right, or refused by name.

The reference is diffusers itself. Data of one point x_0 have `D = x_0` at every state, and with that
network every consistent solver keeps `x = x_0 + sigma n` with n fixed (deterministic) or of unit variance
(stochastic): at every evaluation, the second ones of a step included. So does the scheduler's `add_noise`.
"""

import inspect
import warnings

import diffusers
import numpy as np
import pytest
import torch
from diffusers import schedulers as library
from diffusers.schedulers import deprecated

from model_bridges.entropy.windows import GuidanceInterval
from model_bridges.pipelines import _parametrisation
from model_bridges.pipelines.schedulers import KNOWN, level_at, levels_of, noise_range, scheduler_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

EXPORTED = sorted(
    {
        name
        for module in (diffusers, library, deprecated)
        for name in dir(module)
        if name.endswith("Scheduler") and inspect.isclass(getattr(module, name))
    }
)
# Solvers that draw noise at their steps.
STOCHASTIC = {
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "LCMScheduler",
    "CogVideoXDPMScheduler",
    "UnCLIPScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
    "SASolverScheduler",
    "FlowMatchLCMScheduler",
    "CosineDPMSolverMultistepScheduler",
}
SHAPE = (2, 4, 48, 48)


def scheduler_class(name):
    return next(getattr(m, name) for m in (diffusers, library, deprecated) if hasattr(m, name))


def make(name, **settings):
    """A scheduler that leaves what it is told as it is."""
    kind = scheduler_class(name)
    plain = {"clip_sample": False, "thresholding": False, **settings}
    taken = inspect.signature(kind.__init__).parameters
    assert set(settings) <= set(taken)
    return kind(**{key: value for key, value in plain.items() if key in taken})


def cases():
    for name in sorted(KNOWN):
        family = KNOWN[name]
        for prediction in family.predictions:
            settings = {}
            if family.name != "flow":
                settings["prediction_type"] = prediction
            if family.name != "flow" and prediction == "flow_prediction":
                settings["use_flow_sigmas"] = True
            yield name, settings
        taken = inspect.signature(scheduler_class(name).__init__).parameters
        if "skip_prk_steps" in taken:
            yield name, {"prediction_type": "epsilon", "skip_prk_steps": True}
        if "use_karras_sigmas" in taken:
            yield name, {"use_karras_sigmas": True}
        if "rescale_betas_zero_snr" in taken:  # no signal at the first step
            yield (
                name,
                {
                    "rescale_betas_zero_snr": True,
                    "timestep_spacing": "trailing",
                    "prediction_type": "v_prediction",
                },
            )


def name_case(value):
    return value if isinstance(value, str) else ",".join(map(str, value.values()))


class Loop:
    """A pipeline's loop around a network that knows the one point there is."""

    def __init__(self, scheduler, num_steps=5):
        self.scheduler = scheduler
        generator = torch.Generator().manual_seed(0)
        self.point = 2 * torch.randn(SHAPE, generator=generator)
        self.noise = torch.randn(SHAPE, generator=generator)
        scheduler.set_timesteps(num_steps)
        self.generator = generator

    def noisy(self, timestep):
        add = getattr(self.scheduler, "add_noise", None)
        if add is None:
            return self.scheduler.scale_noise(self.point, timestep[None], self.noise)
        return add(self.point, self.noise, timestep[None])

    def evaluations(self):
        """`(level, x, n)` at every evaluation of the network."""
        scheduler = self.scheduler
        state, old = self.noisy(scheduler.timesteps[0]), None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for index, timestep in enumerate(scheduler.timesteps):
                shown = state
                if hasattr(scheduler, "scale_model_input"):
                    shown = scheduler.scale_model_input(state, timestep)
                level = level_at(scheduler, timestep)
                x = shown.double() / level.scale
                yield level, timestep, x, (x - self.point) / level.sigma
                output = ((self.point - level.skip * x) / level.out).float()
                state, old = self.step(output, index, timestep, state, old)
        self.end = state

    def step(self, output, index, timestep, state, old):
        step = self.scheduler.step
        taken = inspect.signature(step).parameters
        options = {"generator": self.generator} if "generator" in taken else {}
        if "eta" in taken:
            options["eta"] = 0.0
        if "timestep_back" in taken:  # CogVideoX's own order
            back = self.scheduler.timesteps[index - 1] if index else None
            result = step(output, old, timestep, back, state, **options)
            return result[0], result[1]
        if "prev_timestep" in taken:  # UnCLIP takes the training step before by itself
            later = self.scheduler.timesteps[index + 1 :]
            options["prev_timestep"] = later[0] if len(later) else None
        return step(output, timestep, state, **options).prev_sample, None


@pytest.mark.parametrize(("name", "settings"), list(cases()), ids=name_case)
def test_a_known_scheduler_shows_the_state_that_is_claimed(name, settings):
    loop = Loop(make(name, **settings))
    levels = []
    for level, timestep, x, noise in loop.evaluations():
        if (
            name == "PNDMScheduler"
            and len(levels) == 2
            and settings["prediction_type"] != "epsilon"
        ):
            return  # its own Runge-Kutta steps combine v of different levels: no exact solver of this point
        levels.append(level)
        # Float32 of states, and the least signal that stands for none.
        slack = 1e-4 + (4e-3 if levels[0].sigma > 4000 else 0)
        close = {"rtol": 0, "atol": slack + 4e-3 * level.sigma}
        if name in STOCHASTIC:
            assert float(noise.std()) == pytest.approx(1, abs=0.03)
            assert abs(float((noise * loop.point).mean())) / 2 < 0.03
        else:
            torch.testing.assert_close(x, loop.point + level.sigma * loop.noise.double(), **close)
        # SA-Solver's `add_noise` knows the steps of its betas only.
        if not (
            level.provisional
            or (name == "SASolverScheduler" and set(settings) != {"prediction_type"})
        ):
            own = loop.noisy(timestep)
            if hasattr(loop.scheduler, "scale_model_input"):
                own = loop.scheduler.scale_model_input(own, timestep)
            claimed = level.scale * (loop.point + level.sigma * loop.noise.double())
            torch.testing.assert_close(claimed, own.double(), rtol=1e-4, atol=slack)
    kept = [level.sigma for level in levels if not level.provisional]
    assert kept == sorted(set(kept), reverse=True)
    assert len(kept) < len(levels) or KNOWN[name].second is None


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", sorted(name for name in KNOWN if KNOWN[name].name != "flow"))
@pytest.mark.parametrize(
    "prediction", sorted({one for of in KNOWN.values() for one in of.predictions})
)
def test_what_a_network_may_predict_is_what_diffusers_takes(name, prediction):
    settings = {"prediction_type": prediction}
    if prediction == "flow_prediction":
        taken = inspect.signature(scheduler_class(name).__init__).parameters
        settings |= {"use_flow_sigmas": True} if "use_flow_sigmas" in taken else {}
    try:
        loop = Loop(make(name, **settings))
        state, old = loop.noisy(loop.scheduler.timesteps[0]), None
        for index, timestep in enumerate(loop.scheduler.timesteps):
            if hasattr(loop.scheduler, "scale_model_input"):
                loop.scheduler.scale_model_input(state, timestep)
            state, old = loop.step(state, index, timestep, state, old)
        runs = True
    except (ValueError, NotImplementedError):
        runs = False
    assert runs == (prediction in KNOWN[name].predictions)


@pytest.mark.parametrize("name", sorted(set(EXPORTED) - set(KNOWN)))
def test_every_other_class_of_diffusers_is_refused_by_name(name):
    unknown = object.__new__(scheduler_class(name))
    for ask in (lambda: level_at(unknown, 1), lambda: noise_range(unknown)):
        with pytest.raises(ValueError, match=rf"got \S*{name}, .*from_config"):
            ask()


def test_the_table_names_classes_that_there_are():
    assert set(KNOWN) <= set(EXPORTED)
    assert len(EXPORTED) > 40


def test_states_of_a_scheduler_that_cannot_be_are_refused():
    scheduler = diffusers.EulerDiscreteScheduler()
    scheduler.set_timesteps(5)
    steps = scheduler.timesteps
    assert level_at(scheduler, steps[0]).sigma == float(scheduler.sigmas[0])
    scheduler.scale_model_input(torch.zeros(1), steps[0])
    with pytest.raises(ValueError, match="stands at step 999 and the network is called at 499"):
        level_at(scheduler, steps[2])
    with pytest.raises(ValueError, match="One step for all states"):
        level_at(scheduler, steps[:2])
    ddim = diffusers.DDIMScheduler()
    for step in (-1, 1000, 3.5):
        with pytest.raises(ValueError, match=r"whole number in 0\.\.999"):
            level_at(ddim, step)
    for settings, message in (
        ({"prediction_type": "flow_prediction"}, "use_flow_sigmas=False"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas=True"),
        ({"prediction_type": "noise"}, "must be one of epsilon"),
    ):
        with pytest.raises(ValueError, match=message):
            level_at(diffusers.UniPCMultistepScheduler(**settings), 1)
    with pytest.raises(ValueError, match="invert_sigmas"):
        level_at(diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True), 1)
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    solver = diffusers.DPMSolverMultistepScheduler(**flow, use_karras_sigmas=True)
    with pytest.raises(ValueError, match=r"has the level 157\S* at step 999, and those of a flow"):
        levels_of(solver, 10)


# Betas are not all of their noise.
OTHER_NOISE = {"CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "UnCLIPScheduler"}
READ = sorted(
    name for name, family in KNOWN.items() if family.name != "edm" and name not in OTHER_NOISE
)


@pytest.mark.parametrize("name", READ)
def test_a_folder_with_a_scheduler_has_its_levels(name):
    """`abar` of the class with its own defaults, in the file or not in it, and with others."""
    kind = scheduler_class(name)
    if KNOWN[name].name == "flow":
        denoiser = _parametrisation({"_class_name": name, "num_train_timesteps": 800})(
            lambda x, time, label: time[:, None] + 0 * x, num_classes=1, event_shape=(1,)
        )
        assert float(denoiser.raw(torch.ones(1, 1), 3.0, torch.tensor([0]))) == 0.75 * 800
        return
    other = kind(beta_start=0.001, beta_end=0.015, num_train_timesteps=800)
    for scheduler, told in (
        (kind(), {}),
        (kind(), dict(kind().config)),
        (other, dict(other.config)),
    ):
        parametrisation = _parametrisation({"_class_name": name, **told})
        found, own = parametrisation.keywords["alphas_cumprod"], scheduler.alphas_cumprod
        np.testing.assert_allclose(found, own.double().numpy(), rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("name", sorted(set(EXPORTED) - set(READ)))
def test_a_folder_with_any_other_scheduler_is_refused_by_name(name):
    with pytest.raises(ValueError, match=name):
        _parametrisation({"_class_name": name})


@pytest.mark.parametrize(("name", "settings"), list(cases()), ids=name_case)
def test_steps_of_a_scheduler_are_those_that_its_loop_takes(name, settings):
    scheduler, loop = make(name, **settings), Loop(make(name, **settings))
    taken = [
        (float(timestep), level.sigma)
        for level, timestep, _, _ in loop.evaluations()
        if not level.provisional
    ]
    found = levels_of(scheduler, 5)
    np.testing.assert_allclose(found, taken, rtol=1e-6)
    sigmas = sorted({sigma for _, sigma in found})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a flow's depend on its pipeline
        inside = GuidanceInterval((sigmas[0], sigmas[2])).timesteps(scheduler, 5)
    assert inside["timesteps"] == [t for t, sigma in found if sigmas[0] < sigma <= sigmas[2]]


def test_a_scheduler_by_name_or_folder_or_refused(tmp_path):
    own = make("EulerDiscreteScheduler", timestep_spacing="trailing", beta_end=0.012)
    own.save_pretrained(tmp_path / "scheduler")
    assert levels_of(scheduler_of(str(tmp_path)), 7) == levels_of(own, 7)
    assert levels_of(scheduler_of("EulerDiscreteScheduler"), 7) != levels_of(own, 7)
    with pytest.raises(ValueError, match="Did you mean 'EulerDiscreteScheduler'"):
        scheduler_of("EulerDiscretScheduler")
    with pytest.raises(ValueError, match="cannot take 2000 steps"):
        levels_of(make("DDIMScheduler"), 2000)
    for wrong in (0, -1, True):  # other types are refused by their checker in tests
        with pytest.raises(ValueError, match="whole number of at least 1"):
            levels_of(own, wrong)
    for wrong in ("DDIMScheduler", None, type(own)):
        with pytest.raises(ValueError, match="must be given as an object"):
            levels_of(wrong, 20)


def test_a_class_has_the_settings_of_the_pipeline_that_is_measured(capsys):
    from model_bridges.cli.entropy import _scheduler
    from model_bridges.cli.options import Request
    from model_bridges.digits.text import load_pipeline

    own = diffusers.DDIMScheduler.from_config(load_pipeline().scheduler.config)
    capsys.readouterr()
    found = _scheduler("DDIMScheduler", Request(model="digits-text"), 20).scheduler
    assert levels_of(found, 20) == levels_of(own, 20)
    assert levels_of(found, 20) != levels_of(diffusers.DDIMScheduler(), 20)
    assert not capsys.readouterr().err
    _scheduler("DDIMScheduler", Request(model="digits"), 20)
    assert "defaults of its class" in capsys.readouterr().err


FLOW, EDM, BETAS = (
    dict(scheduler.config)
    for scheduler in (
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        diffusers.EDMEulerScheduler(),
        diffusers.DDIMScheduler(beta_end=0.012),
    )
)


@pytest.mark.parametrize(
    ("own", "kind", "name"),
    [
        (FLOW, "FlowMatchEuler", "DDIM"),
        (FLOW, "FlowMatchEuler", "UniPCMultistep"),
        (EDM, "EDMEuler", "EulerDiscrete"),
        (BETAS, "DDIM", "FlowMatchEulerDiscrete"),
        (BETAS, "DDIM", "EDMEuler"),
    ],
)
def test_a_scheduler_of_another_noise_than_the_models_is_refused(own, kind, name, tmp_path):
    """By class or folder, whether the model's configuration names its class, as in a file, or not."""
    make(f"{name}Scheduler").save_pretrained(tmp_path / "scheduler")
    kind = {"FlowMatchEuler": "FlowMatchEulerDiscrete"}.get(kind, kind)
    for settings in (own, {**own, "_class_name": f"{kind}Scheduler"}):
        for asked in (f"{name}Scheduler", str(tmp_path)):
            with pytest.raises(
                ValueError, match=rf"noise of the model, .*; got {name}Scheduler with "
            ):
                scheduler_of(asked, settings)
    scheduler_of(f"{kind}Scheduler", own)


def test_a_solver_with_the_levels_of_a_flow_is_one(tmp_path):
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    make("UniPCMultistepScheduler", **flow).save_pretrained(tmp_path / "scheduler")
    for own in (FLOW, {"_class_name": "FlowMatchHeunDiscreteScheduler", "shift": 3.0}):
        assert scheduler_of(str(tmp_path), own).config.use_flow_sigmas
    solver = scheduler_of("DPMSolverMultistepScheduler", scheduler_of(str(tmp_path)).config)
    assert solver.config.use_flow_sigmas
    with pytest.raises(
        ValueError, match="the levels of a flow; got DDIMScheduler with discrete betas"
    ):
        scheduler_of("DDIMScheduler", scheduler_of(str(tmp_path)).config)


def test_a_command_gives_the_steps_of_the_pipeline_that_it_measures(tmp_path):
    from tiny_pipeline import draw, flux

    from model_bridges.cli.entropy import _scheduler
    from model_bridges.cli.options import Request

    pipe = flux()
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    pipe.save_pretrained(tmp_path)
    request = Request(model=f"diffusers:{tmp_path}")
    draw(pipe)
    for named in (str(tmp_path), "FlowMatchEulerDiscreteScheduler"):
        found = _scheduler(named, request, 6)
        taken = [step for step, _ in found.levels(6)]
        np.testing.assert_allclose(taken, pipe.scheduler.timesteps, rtol=1e-5)
    alone = _scheduler(str(tmp_path), Request(model="digits"), 6)
    assert alone.levels(6) == found.levels(6)
    with pytest.raises(ValueError, match="levels of a flow; got DDIMScheduler"):
        _scheduler("DDIMScheduler", request, 6)
