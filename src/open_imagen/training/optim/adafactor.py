"""Adafactor: factored second moments, as in the paper's base model."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from open_imagen.training.optim.base import (
    OPTIMIZERS,
    NamedParameters,
    OptimConfig,
    OptimizerSpec,
)
from open_imagen.training.parallel import full_tensor, shard_like

EPS_SQUARE = 1e-30
"""Added to squared gradients: epsilon_1 of Adafactor's authors. With a larger constant the second
moment of small gradients would be lost."""
EPS_SCALE = 1e-3
"""Lower bound of a weight's root mean square: their epsilon_2."""
DECAY = 0.8
"""Second moments decay by 1 - step^-0.8."""


class Adafactor(torch.optim.Optimizer):
    """Shazeer and Stern 2018, algorithms 4 to 6: no momentum, second moments as rows and columns.

    Updates are at most 1 in root mean square, then scaled by that of the weight (at least 1e-3) and
    the learning rate; with ``relative_step`` that is at most 1 / sqrt(step).

    Matrices are factored, and convolutions for each position of their kernel: over the axes out
    and in, which are the last two of JAX's convolutions, where the authors' code, T5X and optax
    factor. In torch's layout the last two would be the kernel's, which saves little.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        relative_step: bool = False,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "relative_step": relative_step}
        super().__init__(list(parameters), defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                device = parameter.device
                state["step"] = torch.zeros((), dtype=torch.float32, device=device)
                if parameter.ndim > 1:
                    outside, inside, *kernel = parameter.shape
                    state["row"] = torch.zeros((outside, 1, *kernel), device=device)
                    state["column"] = torch.zeros((1, inside, *kernel), device=device)
                else:
                    state["variance"] = torch.zeros(parameter.shape, device=device)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters; closures are ignored."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)

    def _step(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, lr = self.state[parameter], group["lr"]
        gradient = full_tensor(parameter.grad).float()  # type: ignore[arg-type]
        state["step"] += 1
        one_minus_beta2 = state["step"] ** -DECAY
        square = gradient.square().add_(EPS_SQUARE)
        if parameter.ndim > 1:
            row = state["row"].lerp_(square.mean(1, keepdim=True), one_minus_beta2)
            column = state["column"].lerp_(square.mean(0, keepdim=True), one_minus_beta2)
            # Roots before products: row * column of small gradients is beyond float32.
            update = gradient * (row / row.mean(0, keepdim=True)).rsqrt() * column.rsqrt()
        else:
            update = gradient * state["variance"].lerp_(square, one_minus_beta2).rsqrt()
        update /= _rms(update).clamp(min=1)
        update *= _rms(full_tensor(parameter).float()).clamp(min=EPS_SCALE)
        update *= state["step"].rsqrt().clamp(max=lr) if group["relative_step"] else lr
        parameter.mul_(1 - lr * group["weight_decay"])
        parameter.sub_(shard_like(update.to(parameter.dtype), parameter))


def _rms(tensor: Tensor) -> Tensor:
    out: Tensor = tensor.norm() / tensor.numel() ** 0.5
    return out


def build_adafactor(named: NamedParameters, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """Adafactor for all parameters."""
    parameters = [parameter for _, parameter in named]
    return [Adafactor(parameters, config.lr, config.weight_decay, config.relative_step)]


def adafactor_state(name: str, parameter: nn.Parameter) -> int:
    """Numbers of optimizer state for a parameter."""
    if parameter.ndim < 2:
        return parameter.numel()
    return parameter.numel() // parameter.shape[0] + parameter.numel() // parameter.shape[1]


OPTIMIZERS.register("adafactor")(OptimizerSpec(build_adafactor, adafactor_state))
