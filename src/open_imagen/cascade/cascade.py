"""A cascade: text -> 64 -> 256 -> 1024. generate() and upscale()."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from open_imagen.cascade import checks
from open_imagen.cascade.alpha import parse_background, to_image
from open_imagen.cascade.base import CascadeBase, Settings
from open_imagen.cascade.images import as_image
from open_imagen.cascade.output import GenerationOutput
from open_imagen.cascade.progress import Progress, as_callback
from open_imagen.cascade.requests import ImageRequest
from open_imagen.cascade.sampling import ResolvedSampling


class Cascade(CascadeBase):
    """A frozen text encoder and its stages, lowest resolution first."""

    def generate(
        self,
        prompts: str | Sequence[str],
        seed: int | Sequence[int] | None = 0,
        images_per_prompt: int = 1,
        negative: str | None = None,
        stages: int | None = None,
        settings: Settings | None = None,
        progress: Progress | bool | None = None,
        batch_size: int = 16,
        size: int | tuple[int, int] | str | None = None,
        background: str | None = None,
    ) -> GenerationOutput:
        """Make images of prompts.

        Image k of the call has seed ``seed + k``. It depends on the model, its prompt and
        negative prompt, its seed and the settings, and on nothing else. Numbers may be numpy's or
        torch's.

        Args:
            seed: of the first image, or one for each; None draws one, which the records tell.
            negative: what guidance leads away from; without it, zeroed text.
            stages: how many stages to run; the model's default if None, which is mostly all.
            settings: per stage name, over the model's defaults: ``Sampling``, or plain values as
                in ``{"base": {"steps": 20}}``.
            progress: True for a bar, or a callback ``(stage, step, steps, preview)`` that may look
                at the images, change them or stop; see `open_imagen.cascade.progress`.
            batch_size: images made together; no image depends on it.
            size: width and height of the finished images, or the side of a square: multiples of 8
                for a base alone, of 64 with super-resolution. What the stages were trained for if
                None. The resolution of a stage, without ``stages``, means: up to that stage.
            background: of a model with alpha, what is behind what it leaves transparent: white if
                None, "transparent", or "#rrggbb".

        Raises:
            ConfigError: an empty prompt, or a setting that is unknown or out of range.
            SamplingError: a network computed numbers that are not finite.
        """
        self.check_background(background)
        chosen, first = self.plan(stages, checks.check_size(size))
        checks.check_base(chosen, self.name)
        requests = checks.make_requests(prompts, seed, images_per_prompt, negative)
        batch_size = checks.positive(batch_size, "batch_size")
        resolved = self.complete_settings(chosen, settings, negative)
        self.prompts.warn(one.prompt for one in requests)
        with as_callback(progress) as callback:
            images = self.generator.run(
                chosen, requests, resolved, None, first, batch_size, callback
            )
        return self._output(requests, images, resolved, "generate", background)

    def upscale(
        self,
        image: Image.Image | str | Path | Any,
        prompt: str,
        seed: int | None = 0,
        negative: str | None = None,
        settings: Settings | None = None,
        progress: Progress | bool | None = None,
        background: str | None = None,
    ) -> GenerationOutput:
        """Upscale an image with the super-resolution stages alone.

        Its centre square is scaled to the input of the largest stage that it can feed, and made as
        large as the model's images are by default, or, if it is that already, a stage larger.

        Args:
            image: a PIL image, a file, or an array or tensor; see `images.as_image`.
            prompt: what it shows.

        Raises:
            ConfigError: the model has no such stage, or the image is too small for it.
            DataError: the file is no image.
            SamplingError: a network computed numbers that are not finite.
        """
        self.check_background(background)
        chosen, start = self.start_of(as_image(image))
        requests = checks.make_requests([prompt], seed, 1, negative)
        resolved = self.complete_settings(chosen, settings, negative)
        self.prompts.warn([prompt])
        with as_callback(progress) as callback:
            images = self.generator.run(chosen, requests, resolved, start, progress=callback)
        return self._output(requests, images, resolved, "upscale", background)

    def _output(
        self,
        requests: Sequence[ImageRequest],
        images: dict[str, Tensor],
        settings: Mapping[str, ResolvedSampling],
        made_by: str,
        background: str | None,
    ) -> GenerationOutput:
        """The last stage's images with their records."""
        *_, last = images.values()
        shown = [to_image(pixels, parse_background(background)) for pixels in last]
        records = [
            self.record(request, settings, image.size, made_by, background)
            for request, image in zip(requests, shown, strict=True)
        ]
        return GenerationOutput(shown, images, records)
