"""Gradient clipping by the norm of the whole gradient."""

from collections.abc import Iterable

from torch import Tensor, nn

from open_imagen.training.parallel import full_tensor


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale gradients so that their norm is at most ``max_norm``; return the norm before."""
    return full_tensor(nn.utils.clip_grad_norm_(list(parameters), max_norm))
