"""samples/: images of fixed prompts and seeds."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from open_imagen.cascade.alpha import WHITE, over
from open_imagen.cascade.images import to_uint8
from open_imagen.storage import atomic, write_json
from open_imagen.training.loop import Trainer

FOLDER, COLUMNS = "samples", 4
CAPTIONS = "captions.json"
"""What the images of the sheets were asked to show, in their order."""


def sheets(run: Path) -> dict[int, Path]:
    """The sheets of a run, by the images it had seen."""
    found = sorted((run / FOLDER).glob("[0-9]*.png"))
    return {int(path.stem): path for path in found if path.stem.isdecimal()}


def newest_sheet(run: Path, images_seen: int) -> Path | None:
    """The sheet that was made after so many images, if one was."""
    path = run / FOLDER / f"{images_seen:012d}.png"
    return path if path.is_file() else None


class Samples:
    """A sheet of images every `sample_every` images, always of the same prompts and seeds.

    A super-resolution stage upscales the first examples of its source instead.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self._captions: list[str] | None = None

    def __call__(self, trainer: Trainer) -> None:
        """Sample images of the recipe's prompts, if it is due."""
        prompts = list(trainer.config.prompts)
        upscales = bool(trainer.recipe.stage.lowres)
        if not trainer.is_due(trainer.config.sample_every) or not (prompts or upscales):
            return
        lowres = None
        if upscales:
            batch = trainer.source.batch(0, 8)
            assert batch.lowres is not None
            prompts, lowres = batch.captions, batch.lowres.float().to(trainer.device) / 127.5 - 1
        generators = [torch.Generator().manual_seed(k) for k in range(len(prompts))]
        text = trainer.encode_text(prompts)
        with trainer.averaged() as stage:
            images = stage.sample(text, generators, lowres=lowres)
        if not trainer.world.is_main_process:
            return
        if prompts != self._captions:
            write_json(self.folder / CAPTIONS, {"captions": prompts})
            self._captions = prompts
        with atomic(self.folder / f"{trainer.images_seen:012d}.png") as path:
            make_sheet(images).save(path, format="PNG")


def make_sheet(images: Tensor, columns: int = COLUMNS) -> Image.Image:
    """[B, C, H, W] in [-1, 1] -> one image, row by row; transparency is shown on white."""
    shown = to_uint8(images).cpu()
    if shown.shape[1] == 4:
        shown = over(shown, WHITE)
    blank = shown.new_full((-len(shown) % columns, *shown.shape[1:]), 255)
    grid = torch.cat([shown, blank])
    grid = grid.reshape(-1, columns, *grid.shape[1:])  # [rows, columns, 3, H, W]
    sheet = grid.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)  # [rows H, columns W, 3]
    return Image.fromarray(sheet.contiguous().numpy())
