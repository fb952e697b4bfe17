"""AdamW: torch's fused implementation, with its state allocated at once."""

import torch
from torch import nn

from open_imagen.training.optim.base import (
    OPTIMIZERS,
    NamedParameters,
    OptimConfig,
    OptimizerSpec,
)


def build_adamw(named: NamedParameters, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters; none if there are none."""
    if not named:
        return []
    parameters = [parameter for _, parameter in named]
    adamw = torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )
    for parameter in parameters:
        adamw.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return [adamw]


def adamw_state(name: str, parameter: nn.Parameter) -> int:
    """Numbers of optimizer state for a parameter."""
    return 2 * parameter.numel()


OPTIMIZERS.register("adamw")(OptimizerSpec(build_adamw, adamw_state))
