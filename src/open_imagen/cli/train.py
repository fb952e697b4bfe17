"""imagen train: one recipe, one stage; run it again to resume."""

import sys
from pathlib import Path

import typer


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
    from open_imagen.training.run import read_recipe

    config = read_recipe(recipe, tuple(assignments))

    from open_imagen.data.registry import open_source
    from open_imagen.devices import pick_device
    from open_imagen.text.encoders import load_encoder

    device = str(pick_device(config.train.device))
    source = open_source(config.data, device)
    if dry_run:
        from open_imagen.cascade.stage import Stage

        stage = Stage(config.stage)
        parameters = sum(p.numel() for p in stage.parameters())
        print(to_toml(plain(config)), end="")
        print(f"{parameters:,} parameters; {config.train.images:,} images", file=sys.stderr)
        return

    from rich.console import Console

    from open_imagen.training.reporting import Bar, Log, Samples, Validation
    from open_imagen.training.trainer import Trainer

    console = Console(stderr=True)
    if config.embeddings:
        from open_imagen.text.store import Store

        trainer = Trainer(config, source, Store(Path(config.embeddings)).check(config.encoder))
    else:
        trainer = Trainer(config, source, load_encoder(config.encoder, device))
    with console.status("embedding the captions") as status:

        def embedded(done: int, of: int) -> None:
            status.update(f"embedding the captions: {done:,} of {of:,}")

        trainer.warm(embedded)
    if config.train.validate_every and config.validation:
        held_out = open_source(config.validation, device)
        trainer.callbacks.append(Validation(config.folder, held_out))
    bar = Bar(console, config.train.images)
    trainer.callbacks += [Log(config.folder), Samples(config.folder), bar]
    with bar:
        complete = trainer.fit()
    if complete:
        print(f"{trainer.seen:,} images seen; the model is in {config.folder / 'model'}")
    else:
        print(f"{trainer.seen:,} of {config.train.images:,} images seen; run again to go on")
