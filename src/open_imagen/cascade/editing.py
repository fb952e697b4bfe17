"""Edits and variations of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open_imagen.cascade import checks
from open_imagen.cascade.base import CascadeBase, Settings
from open_imagen.cascade.checks import make_requests
from open_imagen.cascade.edit import EditOptions, EditRequest, Strength
from open_imagen.cascade.output import GenerationOutput
from open_imagen.cascade.progress import Progress, as_callback
from open_imagen.cascade.prompts import plain_prompt
from open_imagen.cascade.requests import ImageRequest
from open_imagen.cascade.variations import Variation
from open_imagen.cascade.vary import (
    cropped,
    full_size,
    record_size,
    recorded_request,
    variation_settings,
)
from open_imagen.data.images import MAX_PIXELS
from open_imagen.data.original import ImageSource


@dataclass(frozen=True)
class EditRun:
    """How the stages run in an edit; the fields are those of `EditingCascade.edit`."""

    stages: int | None
    settings: Settings | None
    progress: Progress | bool | None
    batch_size: int
    background: str | None


class EditingCascade(CascadeBase):
    """A cascade that edits images, and varies those that it generated."""

    def edit(
        self,
        image: ImageSource,
        prompt: str,
        mask: ImageSource | None = None,
        strength: Strength = None,
        seed: int | Sequence[int] | None = 0,
        images: int = 1,
        negative: str | None = None,
        extend: Sequence[int] | None = None,
        stages: int | None = None,
        settings: Settings | None = None,
        progress: Progress | bool | None = None,
        batch_size: int = 16,
        background: str | None = None,
        prompt_weights: bool = False,
        resample: int = 1,
        known: str = "renoised",
        feather: int | None = None,
        context: int | None = None,
        max_pixels: int = MAX_PIXELS,
        repeat: Mapping[str, Any] | None = None,
    ) -> GenerationOutput:
        """Change an image: all of it, what a mask marks, or what extends it.

        Results are as large as the image and its extension, and equal to it outside the mask.

        Args:
            image: a path, a file's bytes, a Pillow image, an array or a tensor of uint8.
            prompt: what the whole result shows.
            mask: an image of the same size, transparent or white where it is regenerated; or
                "alpha": where the image itself is transparent.
            strength: 0 to 1, the share of the steps that run, for all stages or by stage. None:
                0.6, and 1 with a mask or an extension.
            extend: pixels to add left, above, right and below.
            stages: how many stages to run; the model's default if None.
            background: of a model with alpha: None keeps the image's own transparency.
            resample: with a mask: walk each step so often (RePaint).
            known: with a mask: show what stays "renoised" or "clean".
            feather: with a mask: fade in over so many pixels inside it.
            context: with a mask: edit a crop with so many pixels around it.
            max_pixels: larger images are refused.
            repeat: a record; the image and mask must be those that it names.

        Raises:
            DataError: an image cannot be read, or is too large.
            ConfigError: a mask of another size, or a setting that is unknown or out of range.
        """
        options = EditOptions(
            strength=strength,
            extend=extend,
            resample=resample,
            known=known,
            feather=feather,
            context=context,
        )
        edit = EditRequest(image, mask, options, max_pixels, repeat)
        run = EditRun(stages, settings, progress, batch_size, background)
        return self._edit(edit, make_requests(prompt, seed, images, negative, prompt_weights), run)

    def _edit(
        self, edit: EditRequest, requests: Sequence[ImageRequest], run: EditRun
    ) -> GenerationOutput:
        """Make the same edit for each request; all have one prompt."""
        first = requests[0]
        self.check_background(run.background)
        chosen = self.chosen(run.stages)
        checks.check_base(chosen, self.name)
        plan = edit.plan(chosen)
        batch_size = checks.positive(run.batch_size, "batch_size")
        resolved = self.complete_settings(chosen, run.settings, first.negative)
        self.prompts.warn([plain_prompt(first.prompt, first.prompt_weights)])
        with as_callback(run.progress) as callback:
            made = self.generator.run(
                chosen, requests, resolved, None, plan.size, batch_size, callback, plan.starts
            )
        *_, last = made.values()
        shown = [plan.result(pixels, run.background) for pixels in last]
        records = [
            self.record(request, resolved, image.size, "edit", run.background, plan.record)
            for request, image in zip(requests, shown, strict=True)
        ]
        return GenerationOutput(shown, made, records)

    def vary(
        self,
        record: Mapping[str, Any],
        amount: float = 0.3,
        seed: int = 1,
        images: int = 1,
        progress: Progress | bool | None = None,
        batch_size: int = 16,
    ) -> GenerationOutput:
        """Near relatives of an image that this model made, by its record.

        Its noise is mixed with that of another seed in every stage; image k has that of
        ``seed + k``.

        Args:
            amount: 0 is the image itself, 1 the image of the other seed.

        Raises:
            ConfigError: the record is not of a generated image, or a number is out of range.
        """
        settings = variation_settings(record, self.identity)
        chosen, first = self.plan(len(settings), full_size(record))
        others = checks.check_seeds(seed, checks.positive(images, "images"))
        requests = [recorded_request(record, Variation(other, amount)) for other in others]
        batch_size = checks.positive(batch_size, "batch_size")
        resolved = self.complete_settings(chosen, settings, requests[0].negative)
        with as_callback(progress) as callback:
            made = self.generator.run(chosen, requests, resolved, None, first, batch_size, callback)
        output = self._output(requests, made, resolved, "generate", record.get("background"))
        return cropped(output, record_size(record))
