"""Schedule-free AdamW (Defazio et al. 2024), by its authors' package schedulefree.

Gradients are taken at y, between the fast weights z and their running average x; x is what is
sampled, averaged (EMA) and exported. The network holds y all the time: x is computed from y and z.
"""

import torch
from torch import Tensor, nn

from open_imagen.errors import ConfigError, MissingDependency, install_hint
from open_imagen.training.optim.base import (
    OPTIMIZERS,
    NamedParameters,
    OptimConfig,
    OptimizerSpec,
)


def build_schedulefree(named: NamedParameters, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """Schedule-free AdamW for all parameters.

    Raises:
        MissingDependency: the package is not installed.
        ConfigError: there is nothing to train.
    """
    try:
        from schedulefree import AdamWScheduleFree
    except ImportError as error:
        raise MissingDependency(
            "optim.name = 'schedulefree' needs the package schedulefree.",
            install_hint("optimizers"),
        ) from error
    if not named:
        raise ConfigError("There are no trainable weights.")
    parameters = [parameter for _, parameter in named]
    optimizer: torch.optim.Optimizer = AdamWScheduleFree(
        parameters,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
    )
    for parameter in parameters:
        optimizer.state[parameter] = {
            "z": parameter.detach().clone(),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    for group in optimizer.param_groups:
        group["train_mode"] = True  # the network holds y
    return [optimizer]


@torch.no_grad()
def running_average(optimizer: torch.optim.Optimizer, parameter: Tensor) -> Tensor:
    """The running average x of a parameter y = beta1 x + (1 - beta1) z."""
    beta1 = optimizer.param_groups[0]["betas"][0]
    return parameter.detach().lerp(optimizer.state[parameter]["z"], 1 - 1 / beta1)


def schedulefree_state(name: str, parameter: nn.Parameter) -> int:
    """Numbers of optimizer state for a parameter."""
    return 2 * parameter.numel()


OPTIMIZERS.register("schedulefree")(
    OptimizerSpec(
        build_schedulefree,
        schedulefree_state,
        group_state=("k", "weight_sum", "lr_max"),
        evaluation_weight=running_average,
    )
)
