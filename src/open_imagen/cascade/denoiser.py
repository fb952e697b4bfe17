"""From the predictions of a stage to the estimate of the clean image that samplers use.

Here guidance and thresholding are applied, callbacks are called, and numbers are checked.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from open_imagen.cascade.sampling import ResolvedSampling
from open_imagen.diffusion.guidance import GuidanceRule, guide_on, rescaled, undistilled
from open_imagen.diffusion.parameterization import to_x
from open_imagen.diffusion.samplers import Denoise, Estimate, image_of
from open_imagen.errors import ConfigError, SamplingError
from open_imagen.types import CachedText, LowRes, TextEmbedding, stack_texts

Watch = Callable[[int, int, Tensor], Tensor | None]
"""(step, steps, copy of the estimate of the clean images) -> None, or another estimate."""


class Predictor(Protocol):
    """What a denoiser needs of a stage."""

    channels: int
    dtype: torch.dtype
    learned_range: bool

    @property
    def prediction(self) -> str:
        """What the network predicts: eps, x or v."""
        ...

    @property
    def distilled_guidance(self) -> float:
        """The guidance weight of the network's own prediction."""
        ...

    def encode_text(self, text: TextEmbedding) -> CachedText:
        """What the network makes of the text, the same at every step."""
        ...

    def predict(self, z: Tensor, logsnr: float, text: CachedText, lowres: LowRes | None) -> Tensor:
        """The network's prediction for images at one noise level, float32."""
        ...


class Denoiser:
    """(z, logsnr) -> the guided, thresholded estimate of the clean image.

    With guidance, the conditional and unconditional predictions are one call of the network on a
    batch of double length (or triple). A learned variance is that of the conditional prediction.
    """

    def __init__(
        self,
        stage: Predictor,
        text: TextEmbedding,
        settings: ResolvedSampling,
        condition: LowRes | None = None,
        negative: TextEmbedding | None = None,
        levels: Sequence[float] = (),
        weights: Tensor | None = None,
    ) -> None:
        """Encode the text once for all steps.

        Args:
            levels: log-SNRs of all steps, for guidance that counts steps.
            weights: guidance weights [B], where images differ in them.
        """
        self.stage, self.text, self.levels, self.weights = stage, text, levels, weights
        self.guidance, self.threshold = settings.guide, settings.thresholding
        self.rule = GuidanceRule(self.guidance, stage.prediction)
        distilled, null = stage.distilled_guidance, text.null()
        # A distilled network is guided away from no text: a negative prompt needs a third branch.
        self.others = [null] if negative is None else [negative, null][: 1 if distilled == 1 else 2]
        self.own_is_guided = distilled == 1 or (negative is None and not self.guidance.rescale)
        """Whether the network's own prediction is all that is needed at its own weight."""
        self.condition = condition and LowRes(condition.image.to(stage.dtype), condition.level)
        self.copies = 1 + len(self.others)
        self.has_variance = stage.learned_range and settings.sampler == "ddpm"

    def __call__(self, z: Tensor, logsnr: float) -> Estimate:
        """The guided, thresholded estimate for z [B, C, H, W] at one log-SNR."""
        channels = self.stage.channels
        weight = self._weight(logsnr)
        if self._needs_own_alone(weight):
            found = self.stage.predict(z, logsnr, self._own_text, self.condition)
            prediction = found[:, :channels]
        else:
            found, prediction = self._guided(z, logsnr, weight)
        level = torch.tensor(logsnr, dtype=torch.float64)
        x = self.threshold(to_x(prediction, z, level, self.stage.prediction))
        return (x, (found[:, channels:] + 1) / 2) if self.has_variance else x

    def _weight(self, logsnr: float) -> float | Tensor:
        """The guidance weight at this level, one for each image where they differ."""
        weight = self.guidance.at(logsnr, bisect_left(self.levels, logsnr))
        if self.weights is None or weight == 1:
            return weight
        return self.weights[:, None, None, None]

    def _needs_own_alone(self, weight: float | Tensor) -> bool:
        own = self.stage.distilled_guidance
        if isinstance(weight, Tensor) or weight != own or not self.own_is_guided:
            return False
        return weight == 1 or self.guidance.kind == "cfg"

    def _guided(self, z: Tensor, logsnr: float, weight: float | Tensor) -> tuple[Tensor, Tensor]:
        """The network's conditional output, and the guided prediction."""
        own, channels = self.stage.distilled_guidance, self.stage.channels
        repeated = torch.cat([z] * self.copies)
        output = self.stage.predict(repeated, logsnr, self._all_texts, self._repeated_condition)
        found, *rest = output.chunk(self.copies)
        conditional, *negative, null = (part[:, :channels] for part in (found, *rest))
        if self.guidance.kind == "cfg":
            prediction = guide_on(conditional, null, weight, own, *negative)
        else:
            against = negative[0] if negative else null
            c, u = (undistilled(one, null, own) for one in (conditional, against))
            step = bisect_left(self.levels, logsnr)
            prediction = self.rule(c, u, weight, z, logsnr, step)
        if self.guidance.rescale:
            plain = guide_on(conditional, null, 1.0, own)
            prediction = rescaled(prediction, plain, self.guidance.rescale)
        return found, prediction

    @cached_property
    def _all_texts(self) -> CachedText:
        return self.stage.encode_text(stack_texts([self.text, *self.others]))

    @cached_property
    def _own_text(self) -> CachedText:
        # Where other steps need all texts anyhow, this one is a part of those.
        is_always_alone = self.weights is None and self._needs_own_alone(self.guidance.weight)
        if is_always_alone:
            return self.stage.encode_text(self.text)
        return self._all_texts.select(slice(len(self.text.tokens)))

    @cached_property
    def _repeated_condition(self) -> LowRes | None:
        return self.condition and LowRes(
            *(torch.cat([part] * self.copies) for part in self.condition)
        )


def step_at(levels: Sequence[float], logsnr: float) -> int:
    """The step that ends with the estimate at this level, from 1."""
    return min(bisect_right(levels, logsnr), len(levels) - 1)


def watched(denoise: Denoise, levels: Sequence[float], watch: Watch) -> Denoise:
    """The same, with a callback after each estimate, which may change it.

    Raises (when called):
        ConfigError: what the callback returns is no estimate.
    """

    def watching(z: Tensor, logsnr: float) -> Estimate:
        estimate = denoise(z, logsnr)
        x = image_of(estimate)
        with torch.inference_mode(False):  # a plain tensor, which the callback may keep and change
            preview = x.detach().clone()
        changed = watch(step_at(levels, logsnr), len(levels) - 1, preview)
        if changed is None:
            return estimate
        changed = check_estimate(changed, x)
        return (changed, estimate[1]) if isinstance(estimate, tuple) else changed

    return watching


def check_estimate(changed: object, x: Tensor) -> Tensor:
    """What a callback returned in place of the estimate x.

    Raises:
        ConfigError: it is no tensor of the same shape, or not finite.
    """
    if not isinstance(changed, Tensor) or changed.shape != x.shape:
        what = list(changed.shape) if isinstance(changed, Tensor) else repr(changed)
        raise ConfigError(
            f"The progress callback returned {what}; it must return None, or a tensor of shape "
            f"{list(x.shape)} to use in place of the preview."
        )
    if not changed.isfinite().all():
        raise ConfigError("The progress callback returned an image that is not finite.")
    return changed.detach().to(x.device, x.dtype)


class FiniteCheck:
    """Checks that all estimates of a stage are finite.

    On a GPU once, at the end, so that no step waits for the result; on a CPU at every step.
    """

    def __init__(self, stage: str, levels: Sequence[float]) -> None:
        self.stage, self.levels = stage, levels
        self._checked: list[tuple[int, Tensor]] = []

    def around(self, denoise: Denoise) -> Denoise:
        """The same, with its estimates checked."""

        def checking(z: Tensor, logsnr: float) -> Estimate:
            estimate = denoise(z, logsnr)
            self.add(step_at(self.levels, logsnr), image_of(estimate))
            return estimate

        return checking

    def add(self, step: int, x: Tensor) -> None:
        """Check x, the estimate of this step."""
        # NaN and infinity stay in a sum, which is far cheaper than a test of each number.
        self._checked.append((step, x.sum(dtype=torch.float32).isfinite()))
        if x.device.type == "cpu":
            self.finish()

    def finish(self) -> None:
        """Look at what has been checked.

        Raises:
            SamplingError: an estimate was not finite; the message names the stage and the step.
        """
        if not self._checked:
            return
        flags = torch.stack([flag for _, flag in self._checked]).tolist()
        for (step, _), is_finite in zip(self._checked, flags, strict=True):
            if not is_finite:
                raise SamplingError(
                    f"Stage {self.stage} computed numbers that are not finite (NaN or infinity) "
                    f"at step {step} of {len(self.levels) - 1}.",
                    "The weights may be damaged, or dtype = bf16 or the guidance too much for "
                    'them. Try dtype="fp32", and less guidance.',
                )
        self._checked.clear()
