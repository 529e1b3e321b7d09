"""Contracts that every member of a family keeps: a new member is one line in a test."""

import torch

from model_bridges import UNCONDITIONAL, Denoiser, class_raw, difference


def check_denoiser(denoiser: Denoiser, x: torch.Tensor, sigma: float, tolerance: float) -> None:
    """`D = skip x + out F`; batch, scalar and per-image levels agree; differences drop the skip term."""
    assert isinstance(denoiser, Denoiser)
    assert 0 < denoiser.sigma_range[0] < denoiser.sigma_range[1]
    batch, levels = len(x), torch.full((len(x),), sigma, dtype=torch.float64)
    label = torch.arange(batch) % denoiser.num_classes
    other = (label + 1) % denoiser.num_classes
    close = {"rtol": tolerance, "atol": tolerance}
    denoised = denoiser(x, sigma, label)
    assert denoised.shape == x.shape
    assert denoised.dtype == x.dtype
    skip, out = (float(c) for c in denoiser.coefficients(sigma))
    torch.testing.assert_close(
        denoised, skip * x + out * denoiser.raw(x, sigma, label).to(x), **close
    )
    torch.testing.assert_close(denoiser(x, levels, label), denoised, **close)
    torch.testing.assert_close(denoiser(x[:1], sigma, label[:1]), denoised[:1], **close)
    torch.testing.assert_close(
        difference(denoiser, x, sigma, label, other), denoised - denoiser(x, sigma, other), **close
    )
    assert not difference(denoiser, x, sigma, label, label).any()
    for max_batch in (1, 3, 1024):
        raw = class_raw(denoiser, x, sigma, max_batch=max_batch)
        assert raw.shape == (denoiser.num_classes, *x.shape)
        own = raw[label, torch.arange(batch)].to(x)
        torch.testing.assert_close(skip * x + out * own, denoised, **close)
    if denoiser.has_unconditional:
        assert denoiser(x, sigma, UNCONDITIONAL).shape == x.shape
