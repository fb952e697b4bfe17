"""A cascade: text -> 64 -> 256 -> 1024. generate() and upscale(), and all of EditingCascade."""

from collections.abc import Sequence
from pathlib import Path

import torch

from open_imagen.cascade import checks
from open_imagen.cascade.base import Settings
from open_imagen.cascade.editing import EditingCascade
from open_imagen.cascade.folder import write_folder
from open_imagen.cascade.output import GenerationOutput
from open_imagen.cascade.progress import Progress, as_callback
from open_imagen.cascade.prompts import plain_prompt
from open_imagen.data.original import ImageSource


class Cascade(EditingCascade):
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
        prompt_weights: bool = False,
        variations: Sequence[tuple[int, float]] = (),
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
            prompt_weights: whether "(word:1.3)" weighs words (docs/guides/editing.md).
            variations: seeds whose noise is mixed in, each with its amount; see vary.

        Raises:
            ConfigError: an empty prompt, or a setting that is unknown or out of range.
            SamplingError: a network computed numbers that are not finite.
        """
        self.check_background(background)
        chosen, first = self.plan(stages, size)
        checks.check_base(chosen, self.name)
        requests = checks.make_requests(
            prompts, seed, images_per_prompt, negative, prompt_weights, variations
        )
        batch_size = checks.positive(batch_size, "batch_size")
        resolved = self.complete_settings(chosen, settings, negative)
        self.prompts.warn(plain_prompt(one.prompt, prompt_weights) for one in requests)
        with as_callback(progress) as callback:
            images = self.generator.run(
                chosen, requests, resolved, None, first, batch_size, callback
            )
        return self._output(requests, images, resolved, "generate", background)

    def upscale(
        self,
        image: ImageSource,
        prompt: str,
        seed: int | None = 0,
        negative: str | None = None,
        settings: Settings | None = None,
        progress: Progress | bool | None = None,
        background: str | None = None,
    ) -> GenerationOutput:
        """Upscale an image of any size and shape with the super-resolution stages alone.

        They begin with the stage whose input is nearest in size, and end where the model's images
        end by default, but with one stage at least. Nothing is cut off.

        Args:
            image: a PIL image, a file or its bytes, or an array or tensor.
            prompt: what it shows.

        Raises:
            ConfigError: the model has no such stage, or the image is too small or too large.
            DataError: the image cannot be read.
            SamplingError: a network computed numbers that are not finite.
        """
        self.check_background(background)
        chosen, start = self.start_of(image)
        requests = checks.make_requests([prompt], seed, 1, negative)
        resolved = self.complete_settings(chosen, settings, negative)
        self.prompts.warn([prompt])
        with as_callback(progress) as callback:
            images = self.generator.run(chosen, requests, resolved, start, progress=callback)
        return self._output(requests, images, resolved, "upscale", background)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write a model folder (see docs/reference/formats.md).

        Args:
            dtype: of the stored weights; float16 halves them.
        """
        stages = [variants.own for variants in self.variants.values()]
        write_folder(Path(folder), self.config, stages, dtype, self._adapters())
