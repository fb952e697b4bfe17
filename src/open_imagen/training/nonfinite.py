"""Steps whose loss or gradient is not finite: they change nothing, and some in a row end a run."""

import math

from torch import Tensor


class NonfiniteGuard:
    """Counts steps that are not finite."""

    def __init__(self, max_steps: int) -> None:
        """Start with no such step.

        Args:
            max_steps: consecutive non-finite steps at which the run has failed.
        """
        self.max_steps = max_steps
        self.count = self.in_a_row = 0

    def is_finite(self, loss: Tensor, norm: Tensor) -> bool:
        """Whether loss and gradient of a step are finite."""
        if math.isfinite(float(loss)) and math.isfinite(float(norm)):
            self.in_a_row = 0
            return True
        self.count += 1
        self.in_a_row += 1
        return False

    @property
    def has_failed(self) -> bool:
        """Whether too many steps in a row were not finite."""
        return self.in_a_row >= self.max_steps
