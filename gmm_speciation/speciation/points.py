"""A speciation point: where on the noise axis a criterion says that classes part."""

from collections.abc import Mapping

import equinox as eqx
import numpy as np

from gmm_speciation.estimate import Estimate, known
from gmm_speciation.processes import DiffusionProcess
from gmm_speciation.speciation.splits import Split


class SpeciationPoint(eqx.Module):
    """Log-SNR of a criterion, or None with the reason why the criterion is not defined."""

    log_snr: Estimate | None
    reason: str | None = eqx.field(static=True, default=None)
    # What parts there, or that nothing does.
    note: str | None = eqx.field(static=True, default=None)
    splits: tuple[Split, ...] = eqx.field(static=True, default=())  # of components, where known

    def __check_init__(self):
        if (self.log_snr is None) == (self.reason is None):
            raise ValueError("A speciation point has a log-SNR or a reason for having none.")

    def __str__(self) -> str:
        """`λ = −2.77 ± 0.02 (note)`, or `none: reason`."""
        if self.log_snr is None:
            return f"none: {self.reason}"
        return f"λ = {self.log_snr}" + (f" ({self.note})" if self.note else "")

    def __repr__(self) -> str:
        if self.log_snr is None or known(self.log_snr):
            return f"SpeciationPoint({self})"
        return super().__repr__()

    def on(self, process: DiffusionProcess) -> Estimate | None:
        """The time at which `process` passes the point, with its standard error.

        Raises:
            ValueError: If the process never has this log-SNR.
        """
        if self.log_snr is None:
            return None
        time = np.asarray(process.time(self.log_snr.value))
        slope = np.abs(np.asarray(process.log_snr_slope(time)))
        return Estimate(time, np.asarray(self.log_snr.stderr) / slope, self.log_snr.dof)


def points_in_words(points: Mapping[str, SpeciationPoint]) -> str:
    """A line for each point, names in a column."""
    width = max(map(len, points))
    return "\n".join(f"  {name:{width}}  {point}" for name, point in points.items())
