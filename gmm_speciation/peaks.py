"""Maxima of the rate of an entropy curve: places, heights and shares with their errors."""

import equinox as eqx

from gmm_speciation.estimate import Estimate, known


class Peak(eqx.Module):
    """A maximum of the rate per unit log-SNR."""

    log_snr: Estimate
    rate: Estimate
    share: Estimate  # of the information, gained between the valleys on either side
    persistence: Estimate  # height above the saddle towards a greater maximum, unit of the rate

    def __repr__(self) -> str:
        return _peak_in_words(self, "λ", self.log_snr) or super().__repr__()


class ClockedPeak(eqx.Module):
    """A maximum of the rate per unit time; fields as those of `Peak`."""

    time: Estimate
    rate: Estimate
    share: Estimate
    persistence: Estimate

    def __repr__(self) -> str:
        return _peak_in_words(self, "t", self.time) or super().__repr__()


def _peak_in_words(peak: Peak | ClockedPeak, symbol: str, place: Estimate) -> str | None:
    """None where the numbers cannot be printed."""
    if not known(place, peak.rate, peak.share, peak.persistence):
        return None
    return (
        f"{type(peak).__name__}({symbol} = {place}, rate {peak.rate} nats per unit {symbol}, "
        f"{peak.share:.3f} of the information)"
    )
