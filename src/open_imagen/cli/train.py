"""imagen train: one recipe, one stage; run it again to resume."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from open_imagen.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from open_imagen.evaluation.metrics.scores import Measure
    from open_imagen.training.loop import Callback, Trainer
    from open_imagen.training.recipe import Recipe
    from open_imagen.types import Source, TextEncoder
    from open_imagen.world import AlignmentScore


def train(
    recipe: Path = typer.Argument(..., metavar="RECIPE", help="A TOML file; see recipes/."),
    assignments: list[str] = typer.Option(
        [], "--set", metavar="A.B=C", help="Change a setting of the recipe."
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Check everything, print the resolved recipe, and stop."
    ),
) -> None:
    """Train one stage. To resume, run the same command again."""
    from open_imagen.config import plain, to_toml
    from open_imagen.training.recipe import read_recipe

    config = read_recipe(recipe, tuple(assignments))

    from open_imagen.distributed import process_device, process_group
    from open_imagen.planning import check_fits

    device = process_device(config.train.device)
    if dry_run:
        captions = _check(config, device)
        print(to_toml(plain(config)), end="")
        check_fits(config, device, captions=captions)
        return
    with process_group(device) as world:
        check_fits(config, device, world.size)
        _run(config, device, world.is_main_process)


def _check(config: "Recipe", device: "torch.device") -> int:
    """All that can be checked without weights: the stage, the data and the text encoder.

    Returns:
        Bytes of captions' embeddings that a run keeps in the device's memory.
    """
    import torch

    from open_imagen.cascade.stage import Stage
    from open_imagen.planning.fit import resident_bytes
    from open_imagen.training.data_check import check_data, check_examples
    from open_imagen.worlds.sources import open_source

    captions = 0
    _check_encoder(config)
    _alignment(config)
    _check_callbacks(config)
    for section, settings in (("data", config.data), ("validation", config.validation)):
        if settings:
            source = open_source(settings, str(device))
            check_data(config.stage, source, section)
            check_examples(config.stage, source, section)
            _check_embeddings(config, source)
            if section == "data":
                captions = resident_bytes(config, _describe_captions(config, source), device)
    with torch.device("meta"):
        stage = Stage(config.stage)
    parameters = sum(p.numel() for p in stage.parameters())
    print(f"{parameters:,} parameters; {config.train.images:,} images", file=sys.stderr)
    return captions


def _describe_captions(config: "Recipe", source: "Source") -> int:
    """Say how many captions are encoded before the first step; the bytes of the result."""
    from open_imagen.text.encoders import ENCODERS, token_counter
    from open_imagen.text.files import find_local
    from open_imagen.training.text import (
        EMBED_FIRST,
        LARGE,
        MANY,
        estimate_bytes,
        format_bytes,
        is_by_batch,
    )

    spec = ENCODERS[config.encoder]
    folder = find_local(config.encoder, spec)
    if config.embeddings or folder is None:
        return 0
    if is_by_batch(source):
        if len(source) > MANY:
            print(f"{len(source):,} examples: captions are encoded by batch.", file=sys.stderr)
        return 0
    captions = sorted(set(source.captions()))
    count = token_counter(config.encoder, folder)
    size = estimate_bytes(captions, count, spec.max_length, spec.width)
    advice = f" {EMBED_FIRST}" if size > LARGE else ""
    print(
        f"{len(captions):,} captions; their embeddings take about {format_bytes(size)}.{advice}",
        file=sys.stderr,
    )
    return size


def _check_embeddings(config: "Recipe", source: "Source") -> None:
    """Check that what imagen embed wrote holds all captions of a source, and the prompts."""
    from open_imagen.text.store import Store

    if config.embeddings and not getattr(source, "endless_captions", False):
        Store(Path(config.embeddings)).check_captions(
            [*source.captions(), *config.train.sampled_prompts]
        )


def _check_encoder(config: "Recipe") -> None:
    from open_imagen.text.encoders import ENCODERS
    from open_imagen.text.files import find_local
    from open_imagen.text.store import Store
    from open_imagen.training.data_check import check_text, check_text_width

    if config.embeddings:
        check_text(config.stage, Store(Path(config.embeddings)).check(config.encoder))
        return
    spec = ENCODERS[config.encoder]
    check_text_width(config.stage, config.encoder, spec.width)
    if find_local(config.encoder, spec) is None:
        print(
            f"The text encoder {config.encoder} is not on this machine: the run will download "
            f"{spec.repository}.",
            file=sys.stderr,
        )


def _check_callbacks(config: "Recipe") -> None:
    from open_imagen.training.callbacks import CallbackContext, build_callbacks

    build_callbacks(CallbackContext(config))
    _distance_measure(config)


def _alignment(config: "Recipe") -> "AlignmentScore | None":
    """The score by the judge of the world that the data are of, if the recipe asks for it."""
    if not config.train.align_every:
        return None
    from open_imagen.world import is_world, open_world

    kind = str(config.data.get("kind"))
    score = open_world(kind).alignment(config.train.align_prompts) if is_world(kind) else None
    if score is None:
        raise ConfigError(
            f"train.align_every = {config.train.align_every}: there is no alignment score of data "
            f"of the kind {kind!r}.",
            "Leave train.align_every out, or learn from a world with such a score.",
        )
    return score


def _run(config: "Recipe", device: "torch.device", is_main: bool) -> None:
    from rich.console import Console

    console = Console(stderr=True, quiet=not is_main)
    try:
        with _messages_on(console, is_main):
            _train(config, device, is_main, console)
    except KeyboardInterrupt:
        if is_main:
            again = "run the same command again to resume from the newest checkpoint"
            print(f"Interrupted; {again}.", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def _messages_on(console: "Console", is_main: bool) -> Iterator[None]:
    """Show the trainer's messages: above the bar on a terminal, else as dated lines on stderr.

    Only the main process shows any.
    """

    class AboveBar(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)

    handler: logging.Handler = logging.NullHandler()
    if is_main:
        handler = AboveBar() if console.is_terminal else logging.StreamHandler(sys.stderr)
    if not console.is_terminal:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log = logging.getLogger("open_imagen.training")
    before, level = log.propagate, log.level
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = before
        log.setLevel(level)


def _train(config: "Recipe", device: "torch.device", is_main: bool, console: "Console") -> None:
    from open_imagen.text.encoders import load_encoder
    from open_imagen.training.callbacks import ProgressBar, ProgressLines
    from open_imagen.training.callbacks.progress import describe_run
    from open_imagen.training.loop import Trainer
    from open_imagen.worlds.sources import open_source

    alignment = _alignment(config)
    source = open_source(config.data, str(device))
    if config.embeddings:
        from open_imagen.text.store import Store

        trainer = Trainer(config, source, Store(Path(config.embeddings)).check(config.encoder))
    else:
        encoder = load_encoder(config.encoder, device)
        _check_captions(config, device, source, encoder)
        trainer = Trainer(config, source, encoder)
    trainer.begin()
    logging.getLogger("open_imagen.training").info("%s", describe_run(trainer))
    _embed_captions(trainer, console)
    trainer.callbacks += _callbacks(config, device, alignment)
    if console.is_terminal:
        with ProgressBar(console, config.train.images) as bar:
            trainer.callbacks.append(bar)
            complete = trainer.fit()
    else:
        trainer.callbacks.append(ProgressLines())
        complete = trainer.fit()
    if not is_main:
        return
    if complete:
        print(f"{trainer.images_seen:,} images seen; the model is in {config.folder / 'model'}")
    else:
        of = f"{trainer.images_seen:,} of {trainer.total_images:,}"
        print(f"{of} images seen; run the same command again to resume")


def _check_captions(
    config: "Recipe", device: "torch.device", source: "Source", encoder: "TextEncoder"
) -> None:
    """Check again whether the run fits, with the embeddings of its captions."""
    from open_imagen.distributed import world
    from open_imagen.planning.fit import check_fits, resident_bytes
    from open_imagen.training.text import estimate_bytes, is_by_batch

    if is_by_batch(source):
        return
    captions = sorted(set(source.captions()))
    size = estimate_bytes(captions, encoder.num_tokens, encoder.max_length, encoder.width)
    if resident := resident_bytes(config, size, device):
        check_fits(config, device, world().size, resident)


def _embed_captions(trainer: "Trainer", console: "Console") -> None:
    """Encode all captions once, and say how far it is."""
    from open_imagen.training.callbacks.progress import CaptionProgress

    message, denoising = "reading the captions", trainer.recipe.text_denoising
    if denoising.word_classes:
        message = f"assigning {denoising.oov_words:,} out-of-vocabulary words to known words"
    if not console.is_terminal:
        logging.getLogger("open_imagen.training").info("%s", message)
    with console.status(message) as status:
        trainer.warm(CaptionProgress(status.update if console.is_terminal else None))


def _callbacks(
    config: "Recipe", device: "torch.device", alignment: "AlignmentScore | None"
) -> "list[Callback]":
    """The callbacks that a recipe lists, with what they need of other packages."""
    from open_imagen.training.callbacks import CallbackContext, build_callbacks
    from open_imagen.training.data_check import check_data
    from open_imagen.worlds.sources import open_source

    held_out = None
    if config.validation and (config.train.validate_every or config.train.distance_every):
        held_out = open_source(config.validation, str(device))
        check_data(config.stage, held_out, "validation")
        _check_embeddings(config, held_out)
    measure = _distance_measure(config)
    distance = None
    if measure is not None:
        from open_imagen.evaluation.metrics.images import image_distance

        distance = image_distance(measure, device)
    return build_callbacks(CallbackContext(config, held_out, alignment, distance))


def _distance_measure(config: "Recipe") -> "Measure | None":
    """The distance to held-out images that the recipe asks for."""
    if not config.train.distance_every:
        return None
    if not config.validation:
        raise ConfigError(
            f"train.distance_every = {config.train.distance_every} needs held-out images.",
            "Describe them in a section [validation], or leave train.distance_every out.",
        )
    from open_imagen.evaluation.metrics.distances import METRICS
    from open_imagen.evaluation.metrics.scores import parse_measure

    measure = parse_measure(config.train.distance)
    if measure.metric not in METRICS:
        raise ConfigError(
            f"train.distance = {config.train.distance!r} is no distance between images.",
            f"Choose from: {', '.join(sorted(METRICS))}.",
        )
    return measure
