"""Muon for the matrices of inner layers, AdamW for all other parameters."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from open_imagen.backends.cuda_graphs import CapturedCall
from open_imagen.devices import has_bf16
from open_imagen.training.optim.adamw import adamw_state, build_adamw
from open_imagen.training.optim.base import (
    OPTIMIZERS,
    NamedParameters,
    OptimConfig,
    OptimizerSpec,
)
from open_imagen.training.parallel import full_tensor, is_sharded, shard_like


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every singular value of a step is about 1 (Jordan et al. 2024).

    For weights that are matrices, convolutions taken as [out, in * kernel]. Steps are scaled to
    the size of AdamW's, 0.2 sqrt(max(out, in)) (Liu et al. 2025), so that one learning rate fits
    both.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum})
        self._graph: CapturedCall | None = None
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters; closures are ignored."""
        for group in self.param_groups:
            trainable = [one for one in group["params"] if one.grad is not None]
            batched = fits_batched_on_gpu(trainable)
            for parameters in [trainable] if batched else [[one] for one in trainable]:
                momenta = [self.state[one]["momentum"] for one in parameters]
                gradients = [one.grad for one in parameters]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                nesterov = torch._foreach_lerp(gradients, momenta, group["momentum"])
                updates = self._replay(*nesterov) if batched else muon_updates(*nesterov)
                torch._foreach_add_(parameters, updates, alpha=-group["lr"])

    def _replay(self, *nesterov: Tensor) -> list[Tensor]:
        """Compute `muon_updates` as a CUDA graph.

        They are a thousand small kernels, whose time is that of their launches.
        """
        if self._graph is None or len(self._graph.static_inputs) != len(nesterov):
            self._graph = CapturedCall(muon_updates, nesterov)
        updates: list[Tensor] = self._graph.replay(nesterov)
        return updates


MAX_BATCHED = 2**26
"""Numbers that Muon processes as one batch on a GPU, which needs twice their memory meanwhile."""


def fits_batched_on_gpu(parameters: Sequence[Tensor]) -> bool:
    """Whether all of these are updated as one batch.

    On a CPU one after the other takes no more time, and less memory.
    """
    on_gpu = all(one.device.type == "cuda" and not is_sharded(one) for one in parameters)
    return bool(parameters) and on_gpu and sum(map(Tensor.numel, parameters)) <= MAX_BATCHED


def muon_updates(*momenta: Tensor) -> list[Tensor]:
    """Orthogonalised momenta, scaled to the size of AdamW's updates."""
    updates: list[Tensor] = [*momenta]
    for indices in _group_by_shape(momenta):
        matrices = [full_tensor(momenta[k]).flatten(1) for k in indices]
        scale = 0.2 * max(matrices[0].shape) ** 0.5
        for k, update in zip(indices, _orthogonalize_batch(matrices), strict=True):
            like = momenta[k]
            updates[k] = shard_like((update * scale).view_as(like).to(like.dtype), like)
    return updates


def _group_by_shape(parameters: Sequence[Tensor]) -> list[list[int]]:
    """Indices of the parameters by the shape of their matrices."""
    groups: dict[torch.Size, list[int]] = {}
    for k, parameter in enumerate(parameters):
        groups.setdefault(parameter.flatten(1).shape, []).append(k)
    return list(groups.values())


def _orthogonalize_batch(matrices: Sequence[Tensor]) -> Sequence[Tensor]:
    """Matrices of one shape as one batch: on a GPU the time is that of kernel launches."""
    if len(matrices) == 1:
        return [orthogonalize(matrices[0])]
    return orthogonalize(torch.stack(list(matrices))).unbind()


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Orthogonalise a matrix, or several [..., rows, columns].

    The singular vectors stay, the singular values come near 1.

    Newton-Schulz iterations with the quintic of Jordan et al. 2024, which brings any singular
    value in (0, 1] into about [0.7, 1.2]; in bfloat16 where that is fast.
    """
    x = matrix.to(torch.bfloat16) if has_bf16(matrix.device) else matrix.float()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # Rounded to bfloat16, small eigenvalues of the Gram matrix would turn negative and explode.
    iterate = _newton_schulz if x.dtype == torch.bfloat16 else _newton_schulz_gram
    x = iterate(x, steps)
    out: Tensor = (x.mT if tall else x).to(matrix.dtype)
    return out


QUINTIC = (3.4445, -4.7750, 2.0315)


def _newton_schulz(x: Tensor, steps: int) -> Tensor:
    """Iterate x <- (a + b G + c G^2) x, where G = x x^T."""
    a, b, c = QUINTIC
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def _newton_schulz_gram(x: Tensor, steps: int) -> Tensor:
    """The same iteration in terms of G alone.

    Its factors p commute with G, so that G <- p G p, and their product is applied once. This takes
    two to three times less work for the matrices of convolutions.
    """
    a, b, c = QUINTIC
    gram = x @ x.mT
    plus = torch.addmm if gram.ndim == 2 else torch.baddbmm
    product = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    for _ in range(steps):
        factor = plus(b * gram, gram, gram, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor @ product
        gram = factor @ gram @ factor
    return product @ x


def is_inner_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon is for this parameter: of inner layers, neither the first nor the last."""
    inner = name.split(".")[0] not in ("stem", "head")
    return parameter.requires_grad and parameter.ndim in (2, 4) and inner


def build_muon(named: NamedParameters, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """Muon for the inner matrices, AdamW for the other parameters."""
    matrices = [parameter for name, parameter in named if is_inner_matrix(name, parameter)]
    others = [pair for pair in named if not is_inner_matrix(*pair)]
    optimizers = build_adamw(others, config)
    if matrices:
        optimizers.append(Muon(matrices, config.lr, config.momentum))
    return optimizers


def muon_state(name: str, parameter: nn.Parameter) -> int:
    """Numbers of optimizer state for a parameter."""
    if is_inner_matrix(name, parameter):
        return parameter.numel()
    return adamw_state(name, parameter)


OPTIMIZERS.register("muon")(OptimizerSpec(build_muon, muon_state))
