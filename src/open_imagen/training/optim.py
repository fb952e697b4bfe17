"""The optimiser (AdamW, Adafactor or Muon), the learning rate over images seen, clipping."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from open_imagen.backends.cuda_graphs import CapturedCall
from open_imagen.devices import has_bf16
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.training.parallel import is_shared, shared_out, whole

OPTIMIZERS = ("adafactor", "adamw", "muon")
CURVES = ("cosine", "linear")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights learn."""

    name: str = "adamw"
    """adamw; adafactor (the paper's base); or muon: Muon for inner matrices and convolutions, AdamW
    for the rest."""
    lr: float = 1e-4
    """Peak learning rate."""
    warmup: int = 10_000
    """Images over which the learning rate rises from 0."""
    decay: float = 0.0
    """Share of the run, at its end, over which the learning rate falls to 0."""
    curve: str = "linear"
    """How it falls: linear or cosine."""
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.95
    """Of Muon."""
    relative_step: bool = False
    """Of Adafactor: learn no faster than 1 / sqrt(step), as where its authors set no rate."""
    clip: float = 1.0
    """Largest norm of the whole gradient."""

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise UnknownName("optimiser", self.name, OPTIMIZERS)
        if self.curve not in CURVES:
            raise UnknownName("curve", self.curve, CURVES)
        if not self.lr > 0 or not self.clip > 0:
            raise ConfigError(f"optim.lr = {self.lr} and optim.clip = {self.clip} must be above 0.")
        if not 0 <= self.decay <= 1:
            raise ConfigError(f"optim.decay = {self.decay} must be between 0 and 1.")

    def rate(self, seen: int, total: int) -> float:
        """The learning rate when ``seen`` of ``total`` images have been learned from."""
        rising = min(1.0, (seen + 1) / self.warmup) if self.warmup else 1.0
        left = min(1.0, max(0.0, (total - seen) / (self.decay * total))) if self.decay else 1.0
        falling = left if self.curve == "linear" else (1 - math.cos(math.pi * left)) / 2
        return self.lr * rising * falling


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
        for group in self.param_groups:
            learning = [one for one in group["params"] if one.grad is not None]
            together = are_small_on_gpu(learning)
            for some in [learning] if together else [[one] for one in learning]:
                momenta = [self.state[one]["momentum"] for one in some]
                gradients = [one.grad for one in some]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov
                steps = self._replayed(*ahead) if together else directions(*ahead)
                torch._foreach_add_(some, steps, alpha=-group["lr"])

    def _replayed(self, *ahead: Tensor) -> list[Tensor]:
        """`directions` as a CUDA graph: a thousand small kernels, which take as long as their
        launches."""
        if self._graph is None or len(self._graph.static_inputs) != len(ahead):
            self._graph = CapturedCall(directions, ahead)
        steps: list[Tensor] = self._graph.replay(ahead)
        return steps


MOST_TOGETHER = 2**26
"""Numbers that Muon takes together on a GPU, which holds them two times more meanwhile."""


def are_small_on_gpu(parameters: Sequence[Tensor]) -> bool:
    """Whether all of these are best stepped together. Elsewhere one after the other takes no more
    time, and less memory."""
    whole_on_gpu = all(one.device.type == "cuda" and not is_shared(one) for one in parameters)
    return bool(parameters) and whole_on_gpu and sum(map(Tensor.numel, parameters)) <= MOST_TOGETHER


def directions(*ahead: Tensor) -> list[Tensor]:
    """Where to step for each momentum: orthogonalised, and of the size of AdamW's steps."""
    steps: list[Tensor] = [*ahead]
    for alike in _alike(ahead):
        matrices = [whole(ahead[place]).flatten(1) for place in alike]
        scale = 0.2 * max(matrices[0].shape) ** 0.5
        for place, step in zip(alike, _orthogonalized(matrices), strict=True):
            one = ahead[place]
            steps[place] = shared_out((step * scale).view_as(one).to(one.dtype), one)
    return steps


def _alike(parameters: Sequence[Tensor]) -> list[list[int]]:
    """Places of the parameters by the shape of their matrices."""
    groups: dict[torch.Size, list[int]] = {}
    for place, one in enumerate(parameters):
        groups.setdefault(one.flatten(1).shape, []).append(place)
    return list(groups.values())


def _orthogonalized(matrices: Sequence[Tensor]) -> Sequence[Tensor]:
    """Matrices of one shape, together: on a GPU the time is that of starting so many products."""
    if len(matrices) == 1:
        return [orthogonalized(matrices[0])]
    return orthogonalized(torch.stack(list(matrices))).unbind()


def orthogonalized(matrix: Tensor, steps: int = 5) -> Tensor:
    """A matrix, or several [..., rows, columns], with the same singular vectors and singular
    values near 1.

    Newton-Schulz iterations with the quintic of Jordan et al. 2024, which brings any singular
    value in (0, 1] into about [0.7, 1.2]; in bfloat16 where that is fast.
    """
    x = matrix.to(torch.bfloat16) if has_bf16(matrix.device) else matrix.float()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # Rounded to bfloat16, small eigenvalues of the Gram matrix would turn negative and explode.
    x = _iterated(x, steps) if x.dtype == torch.bfloat16 else _iterated_small(x, steps)
    out: Tensor = (x.mT if tall else x).to(matrix.dtype)
    return out


QUINTIC = (3.4445, -4.7750, 2.0315)


def _iterated(x: Tensor, steps: int) -> Tensor:
    """x <- (a + b G + c G^2) x, where G = x x^T."""
    a, b, c = QUINTIC
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def _iterated_small(x: Tensor, steps: int) -> Tensor:
    """The same on the small side alone: the factors commute with G, so that G <- p G p and their
    product is applied once. Less work by two to three on the matrices of convolutions."""
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


EPS_SQUARE = 1e-30
"""Added to squared gradients: the regularisation constant epsilon_1 of Adafactor's authors. In the
place of any larger one, small gradients would lose their second moment."""
EPS_SCALE = 1e-3
"""The size of a weight is taken to be no smaller than this: their epsilon_2."""
DECAY = 0.8
"""Second moments decay by 1 - step^-0.8."""


class Adafactor(torch.optim.Optimizer):
    """Shazeer and Stern 2018, algorithms 4 to 6: no momentum, second moments as rows and columns.

    Updates are at most 1 in root mean square, then scaled by that of the weight (at least 1e-3) and
    the learning rate; with ``relative_step`` that is at most 1 / sqrt(step).

    Matrices are factored, and convolutions for each place of their kernel: over the axes out and
    in, which are the last two of JAX's convolutions, where the authors' code, T5X and optax factor.
    In torch's layout the last two would be the kernel's, which saves little.
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
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)

    def _step(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, lr = self.state[parameter], group["lr"]
        gradient = whole(parameter.grad).float()  # type: ignore[arg-type]
        state["step"] += 1
        fresh = state["step"] ** -DECAY  # 1 - beta2 of this step
        square = gradient.square().add_(EPS_SQUARE)
        if parameter.ndim > 1:
            row = state["row"].lerp_(square.mean(1, keepdim=True), fresh)
            column = state["column"].lerp_(square.mean(0, keepdim=True), fresh)
            # Roots before products: row * column of small gradients is beyond float32.
            update = gradient * (row / row.mean(0, keepdim=True)).rsqrt() * column.rsqrt()
        else:
            update = gradient * state["variance"].lerp_(square, fresh).rsqrt()
        update /= _rms(update).clamp(min=1)
        update *= _rms(whole(parameter).float()).clamp(min=EPS_SCALE)
        update *= state["step"].rsqrt().clamp(max=lr) if group["relative_step"] else lr
        parameter.mul_(1 - lr * group["weight_decay"])
        parameter.sub_(shared_out(update.to(parameter.dtype), parameter))


def _rms(tensor: Tensor) -> Tensor:
    out: Tensor = tensor.norm() / tensor.numel() ** 0.5
    return out


class Mixed:
    """Several optimisers as one: each has its own parameters."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> dict[nn.Parameter, dict[str, Tensor]]:
        """Everything a checkpoint must hold, per parameter."""
        merged: dict[nn.Parameter, dict[str, Tensor]] = {}
        for optimizer in self.optimizers:
            merged.update(optimizer.state)  # type: ignore[arg-type]
        return merged

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)


def make_optimizer(network: nn.Module, config: OptimConfig) -> Mixed:
    """The optimiser with its state allocated, so that a checkpoint always has the same tensors."""
    learning = [p for p in network.parameters() if p.requires_grad]
    if config.name == "adafactor":
        how = (config.lr, config.weight_decay, config.relative_step)
        return Mixed(Adafactor(learning, *how))
    matrices = _matrices(network) if config.name == "muon" else []
    inner = {id(parameter) for parameter in matrices}
    others = [p for p in learning if id(p) not in inner]
    optimizers: list[torch.optim.Optimizer] = []
    if others:
        adamw = torch.optim.AdamW(
            others,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )
        for parameter in others:
            adamw.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        optimizers.append(adamw)
    if matrices:
        optimizers.append(Muon(matrices, config.lr, config.momentum))
    return Mixed(*optimizers)


def state_numbers(network: nn.Module, config: OptimConfig) -> int:
    """Numbers that the optimiser will keep for this network, which may be on "meta"."""
    inner = {id(p) for p in _matrices(network)} if config.name == "muon" else set()
    total = 0
    for parameter in network.parameters():
        size = parameter.numel()
        if config.name == "adafactor" and parameter.ndim > 1:
            total += size // parameter.shape[0] + size // parameter.shape[1]
        elif config.name == "adafactor" or id(parameter) in inner:
            total += size
        else:
            total += 2 * size
    return total


def _matrices(network: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon is for: inner layers, neither the first nor the last."""
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
        and parameter.ndim in (2, 4)
        and name.split(".")[0] not in ("stem", "head")
    ]


def clip(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients so that their norm is at most ``limit``; return the norm before."""
    return whole(nn.utils.clip_grad_norm_(list(parameters), limit))
