"""What the schedulers of diffusers show to a network, and what they take its output for.

In EDM coordinates, x = x_0 + sigma eps, the network sees `scale x` and its output F stands for the
posterior mean `D = skip x + out F` (see `model_bridges.denoisers.parametrisation`). Four families:

    family    sigma                                     scale                           F
    steps     sqrt((1 - abar) / abar) at the step       1 / sqrt(1 + sigma^2)           eps, v, x_0
    levels    the scheduler's `sigmas` at its place     1 / sqrt(1 + sigma^2)           eps, v, x_0
    edm       the same                                  1 / sqrt(sigma^2 + sigma_d^2)   raw
    flow      t / (1 - t), t the scheduler's `sigmas`   1 / (1 + sigma)                 eps - x_0

"Raw" is the output of Karras et al. 2022 (arXiv 2206.00364), Table 1, with
sigma_d the scheduler's `sigma_data`.

Schedulers of second order ask twice a step: the second time at a point they do not keep, at the next level
(Heun, PNDM's start) or between the two (DPM-2). Such an evaluation is `provisional`.

A class that is not in `KNOWN` is refused by name: what its states are is not guessed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gmm_speciation.lookup import pick
from model_bridges.denoisers.parametrisation import COEFFICIENTS
from model_bridges.pipelines.parts import Source

Midpoint = Callable[[Any, int], Any]
VALUES = ("epsilon", "v_prediction", "sample")
RAW = ("epsilon", "v_prediction")  # of EDM's preconditioning: the sign of `c_out`
FLOW = ("flow_prediction",)
# Where no signal is left sigma is infinite. Diffusers' own schedulers of `sigmas` put abar = 2^-24 there.
LEAST_SIGNAL = 2.0**-12  # and half of what the next level has, where that is less: levels fall


@dataclass(frozen=True)
class Family:
    """A row of the module's table.

    Args:
        name: steps, levels, edm or flow.
        predictions: What `prediction_type` may be.
        second: The scheduler's own sigma at the second evaluation of a step, given the scheduler and its
            place; `None` for schedulers that ask once a step.
    """

    name: str
    predictions: tuple[str, ...]
    second: Midpoint | None = None


def _here(scheduler: Any, place: int) -> Any:
    return scheduler.sigmas[place]


_STEPS, _LEVELS = Family("steps", VALUES), Family("levels", VALUES)
_SOLVER = Family("levels", VALUES + FLOW)
_EDM, _FLOW = Family("edm", RAW), Family("flow", FLOW)
KNOWN: dict[str, Family] = {
    "DDIMScheduler": _STEPS,
    "DDIMParallelScheduler": _STEPS,
    "DDPMScheduler": _STEPS,
    "DDPMParallelScheduler": _STEPS,
    "LCMScheduler": _STEPS,
    "TCDScheduler": _STEPS,
    "CogVideoXDDIMScheduler": _STEPS,
    "CogVideoXDPMScheduler": _STEPS,
    "PNDMScheduler": Family("steps", RAW),
    "UnCLIPScheduler": Family("steps", ("epsilon", "sample")),
    "EulerDiscreteScheduler": _LEVELS,
    "EulerAncestralDiscreteScheduler": Family("levels", RAW),
    "LMSDiscreteScheduler": _LEVELS,
    "HeunDiscreteScheduler": Family("levels", VALUES, _here),
    "KDPM2DiscreteScheduler": Family("levels", RAW, lambda s, i: s.sigmas_interpol[i]),
    "KDPM2AncestralDiscreteScheduler": Family("levels", RAW, lambda s, i: s.sigmas_interpol[i - 1]),
    "DPMSolverSDEScheduler": Family("levels", RAW, lambda s, i: s.mid_point_sigma),
    "DPMSolverMultistepScheduler": _SOLVER,
    "DPMSolverSinglestepScheduler": _SOLVER,
    "DEISMultistepScheduler": _SOLVER,
    "UniPCMultistepScheduler": _SOLVER,
    "SASolverScheduler": _SOLVER,
    "EDMEulerScheduler": _EDM,
    "EDMDPMSolverMultistepScheduler": _EDM,
    "CosineDPMSolverMultistepScheduler": _EDM,
    "FlowMatchEulerDiscreteScheduler": _FLOW,
    "FlowMatchHeunDiscreteScheduler": Family("flow", FLOW, _here),
    "FlowMatchLCMScheduler": _FLOW,
}


class Level(NamedTuple):
    """A network's evaluation in EDM coordinates: it sees `scale x`, and `D = skip x + out F`."""

    sigma: float
    scale: float
    skip: float
    out: float
    provisional: bool


def family_of(name: str, settings: Mapping[str, Any]) -> tuple[str, str]:
    """The family of a scheduler and what its network predicts.

    Args:
        name: Its class in diffusers.
        settings: Its configuration.

    Raises:
        ValueError: If the class, its `prediction_type` or a setting that changes the states is unknown.
    """
    if not isinstance(name, str) or name not in KNOWN:
        raise ValueError(
            f"The scheduler must be one of {', '.join(KNOWN)}; got {name}, whose noise is not known here. "
            "Take one that goes with the network: "
            "`pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)`."
        )
    family = KNOWN[name]
    prediction = settings.get("prediction_type", FLOW[0] if family.name == "flow" else "epsilon")
    if prediction not in family.predictions:
        raise ValueError(
            f"`prediction_type` of {name} must be one of {', '.join(family.predictions)}; got "
            f"{prediction!r}."
        )
    if settings.get("invert_sigmas"):
        raise ValueError(
            f"{name} has `invert_sigmas`: its levels run from signal to noise, which is not known here."
        )
    flows = bool(settings.get("use_flow_sigmas", family.name == "flow"))
    if flows != (prediction in FLOW):
        raise ValueError(
            f"{name} has `use_flow_sigmas={flows}` and `prediction_type={prediction!r}`: a flow has flow "
            "levels, and nothing else has. Set both or neither."
        )
    return ("flow" if flows else family.name), prediction


def identified(scheduler: Any) -> tuple[str, Mapping[str, Any]]:
    """Name and configuration of a scheduler of diffusers; its heirs are classes of their own."""
    kind = type(scheduler)
    own = kind.__module__.startswith("diffusers.")
    name = kind.__name__ if own else f"{kind.__module__}.{kind.__qualname__}"
    return name, getattr(scheduler, "config", {})


def check_untouched(scheduler: Any) -> None:
    """Refuse a scheduler of `KNOWN` whose signal was set in place: what reads its configuration misses it.

    Raises:
        ValueError: If its `alphas_cumprod` are not those of its configuration.
    """
    live = getattr(scheduler, "alphas_cumprod", None)
    if live is None:
        return
    told = type(scheduler).from_config(scheduler.config).alphas_cumprod
    live = torch.as_tensor(live).detach().to(told)
    if live.shape != told.shape or not torch.allclose(live, told, rtol=1e-5, atol=1e-9):
        raise ValueError(
            f"`alphas_cumprod` of {type(scheduler).__name__} must be those of its configuration; they were "
            "set in place. Set them by it: `type(s).from_config(s.config, trained_betas=betas)`, with "
            "`betas[k] = 1 - abar[k] / abar[k - 1]` and `betas[0] = 1 - abar[0]`."
        )


def level_at(scheduler: Any, timestep: Any) -> Level:
    """Where a network stands that a scheduler's loop evaluates at `timestep`.

    Raises:
        ValueError: If the scheduler is not known, is not at this step, or no noise is left; if no signal
            is left and the network predicts the noise.
    """
    name, settings = identified(scheduler)
    family, prediction = family_of(name, settings)
    times = torch.as_tensor(timestep).unique()
    if len(times) != 1:
        raise ValueError(
            f"One step for all states is needed; the network is called at {times.tolist()}."
        )
    step, second = float(times), KNOWN[name].second
    if family == "steps":
        provisional = name == "PNDMScheduler" and _between(scheduler)
        signal = float(scheduler.alphas_cumprod[_index(scheduler, step)])
        if signal == 0 and prediction == "epsilon":
            raise ValueError(
                f"{name} starts without any signal (`rescale_betas_zero_snr`), where a prediction of the "
                "noise says nothing. Take a network that predicts v, or set it to false."
            )
        signal = signal or _for_none(scheduler.alphas_cumprod, LEAST_SIGNAL**2)
        sigma = ((1 - signal) / signal) ** 0.5
    else:
        provisional = second is not None and not scheduler.state_in_first_order
        place = _place(scheduler, times[0])
        sigma = float(
            second(scheduler, place) if provisional and second else _here(scheduler, place)
        )
        if family == "flow":
            if not 0 <= sigma <= 1:
                raise ValueError(
                    f"{name} has the level {sigma:g} at step {step:g}, and those of a flow lie in [0, 1]: "
                    "settings such as `use_karras_sigmas` replace them. Leave these out."
                )
            sigma = sigma / ((1 - sigma) or _for_none(1 - scheduler.sigmas, LEAST_SIGNAL))
    if sigma <= 0:
        raise ValueError(
            f"No noise is left at step {step:g} of {name}: stop the sampler before it."
        )
    return Level(sigma, *_coefficients(family, prediction, settings, sigma), provisional)


def levels_of(
    scheduler: Any, num_steps: int, handed: Callable[[int], Mapping[str, Any]] | None = None
) -> list[tuple[float, float]]:
    """`(timestep, sigma)` of the steps that a scheduler takes, the noisiest first.

    The scheduler itself stays where it is. Second evaluations of a step are left out. `handed` is what its
    pipeline gives to `set_timesteps` for a number of steps, besides the number.

    Raises:
        ValueError: As `level_at` and `check_untouched`; if it is no scheduler or cannot take this number of
            steps, or its noise would not fall at one of them.
    """
    if isinstance(scheduler, type) or not hasattr(scheduler, "set_timesteps"):
        raise ValueError(
            "A scheduler of diffusers must be given as an object, such as `pipe.scheduler`; got "
            f"{scheduler!r}."
        )
    if isinstance(num_steps, bool) or not isinstance(num_steps, Integral) or num_steps < 1:
        raise ValueError(
            f"The number of steps must be a whole number of at least 1; got {num_steps!r}."
        )
    name, settings = identified(scheduler)
    family_of(name, settings)
    check_untouched(scheduler)
    fresh = type(scheduler).from_config(scheduler.config)
    if hasattr(scheduler, "set_shift"):  # which leaves the configuration as it is
        fresh.set_shift(scheduler.shift)
    scheduler = fresh
    try:
        own = {} if handed is None else handed(num_steps)
        # A list of levels takes the place of the number.
        scheduler.set_timesteps(*(() if "sigmas" in own else (num_steps,)), **own)
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"{name} cannot take {num_steps} steps: {error}") from error
    found = []
    for place in range(0, len(scheduler.timesteps), 1 if KNOWN[name].second is None else 2):
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(place)
        if name == "PNDMScheduler":
            scheduler.counter = place
        level = level_at(scheduler, scheduler.timesteps[place])
        if not level.provisional:
            found.append((float(scheduler.timesteps[place]), level.sigma))
    for (step, sigma), (_, following) in pairwise(found):
        # It has fewer; solvers of second order divide by the logarithm of the ratio.
        if not following < sigma:
            raise ValueError(
                f"{name} cannot take {num_steps} steps: its noise must fall at each, and goes from "
                f"{sigma:g} at step {step:g} to {following:g}. Take fewer steps."
            )
    return found


def scheduler_of(name: str, own: Mapping[str, Any] | None = None) -> Any:
    """A scheduler of diffusers: that of a pipeline, or of a class.

    Args:
        name: A pipeline's folder, or one of `KNOWN`.
        own: Settings of a class, those of the pipeline that is sampled; its defaults if `None`.

    Raises:
        ValueError: If it is neither, the folder holds no scheduler of `KNOWN`, or its noise (betas, EDM's, a
            flow's) is another kind than that of `own`.
    """
    import diffusers

    settings = own or {}
    if Path(name).is_dir():
        settings = Source(name).settings("scheduler")
        name = str(settings.get("_class_name"))
    pick(name, KNOWN, "scheduler")
    made = getattr(diffusers, name).from_config(dict(settings))
    wanted = _noise(own or {})
    found = _noise({**made.config, "_class_name": name})
    if wanted not in (None, found):
        kin = [other for other in KNOWN if _noise({"_class_name": other}) == wanted]
        raise ValueError(
            f"The scheduler must have the noise of the model, {wanted}; got {name} with {found}. Take one of "
            f"{', '.join(kin)}, or a folder of the model's kind."
        )
    return made


def _noise(settings: Mapping[str, Any]) -> str | None:
    """What sets the levels of a scheduler with this configuration, in words; `None` if nothing says it."""
    kinds = {"steps": "discrete betas", "edm": "the levels of EDM", "flow": "the levels of a flow"}
    kinds["levels"] = kinds["steps"]
    name = settings.get("_class_name")
    if name in KNOWN:
        family = KNOWN[str(name)]
        # Others carry this setting of another class along.
        flows = settings.get("use_flow_sigmas") and set(FLOW) <= set(family.predictions)
        return kinds["flow" if flows else family.name]
    # In memory a configuration does not name its class.
    if settings.get("use_flow_sigmas"):
        return kinds["flow"]
    marks = {"beta_schedule": "steps", "sigma_data": "edm", "shift": "flow"}
    return next((kinds[family] for key, family in marks.items() if key in settings), None)


def _coefficients(
    family: str, prediction: str, settings: Mapping[str, Any], sigma: float
) -> tuple[float, float, float]:
    """`(scale, skip, out)`."""
    if family == "edm":  # Karras et al. 2022, Table 1
        data = settings["sigma_data"]
        scale = (sigma**2 + data**2) ** -0.5
        sign = 1 if prediction == "epsilon" else -1
        return scale, (data * scale) ** 2, sign * sigma * data * scale
    skip, out = COEFFICIENTS[prediction](torch.tensor(sigma, dtype=torch.float64))
    scale = 1 / (1 + sigma) if family == "flow" else (1 + sigma**2) ** -0.5
    return scale, float(skip), float(out)


def _for_none(signals: Tensor, most: float) -> float:
    """What stands for no signal: less than every other."""
    return min(most, float(signals[signals > 0].min()) / 2)


def _index(scheduler: Any, step: float) -> int:
    if not (step.is_integer() and 0 <= step < len(scheduler.alphas_cumprod)):
        raise ValueError(
            f"A step of {type(scheduler).__name__} must be a whole number in "
            f"0..{len(scheduler.alphas_cumprod) - 1}; the network is called at {step:g}."
        )
    return int(step)


def _place(scheduler: Any, time: Tensor) -> int:
    """Index of the scheduler's `sigmas`, which it sets at its first step only."""
    place = scheduler.step_index
    if place is None:
        place = scheduler.begin_index
    if place is None:
        place = scheduler.index_for_timestep(time.to(scheduler.timesteps.device))
    there = float(scheduler.timesteps[place]) if place < len(scheduler.timesteps) else math.nan
    if not math.isclose(there, float(time), rel_tol=1e-5, abs_tol=1e-5):
        raise ValueError(
            f"{type(scheduler).__name__} stands at step {there:g} and the network is called at "
            f"{float(time):g}. Each run needs a scheduler of its own."
        )
    return int(place)


def _between(scheduler: Any) -> bool:
    """Whether PNDM's next evaluation is at a point it does not keep: its Runge-Kutta steps, or Heun's."""
    if scheduler.config.skip_prk_steps:
        return scheduler.counter == 1
    return scheduler.counter < len(scheduler.prk_timesteps) and scheduler.counter % 4 != 0


def noise_range(scheduler: Any) -> tuple[float, float]:
    """Least and largest sigma that a scheduler's network was trained for.

    Raises:
        ValueError: As `family_of`.
    """
    name, settings = identified(scheduler)
    family, _ = family_of(name, settings)
    if family == "edm":
        return settings["sigma_min"], settings["sigma_max"]
    if family == "flow":
        return 0.0, math.inf
    signal = scheduler.alphas_cumprod.double()
    signal = signal.clamp(min=_for_none(signal, LEAST_SIGNAL**2))
    sigma = ((1 - signal) / signal) ** 0.5
    return float(sigma.min()), float(sigma.max())
