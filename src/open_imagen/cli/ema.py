"""imagen average: a model of a finished run with averaged weights of another length."""

from pathlib import Path

import typer

from open_imagen.errors import ConfigError


def average(
    run: Path = typer.Argument(..., metavar="RUN", help="A run folder with averages/ in it."),
    length: float = typer.Option(
        ..., "--length", help="Relative to the run, 0.01 to 0.25: how far back it remembers."
    ),
    images: int = typer.Option(
        0, "--images", metavar="N", help="When so many had been seen; at the end if not given."
    ),
    out: Path = typer.Option(..., "--out", "-o", metavar="DIR", help="The model folder to write."),
) -> None:
    """Choose how long weights are averaged, after training."""
    from open_imagen.training.averages import combined
    from open_imagen.training.run import read_recipe
    from open_imagen.training.trainer import write_model

    recipe = read_recipe(run / "recipe.toml")
    if recipe.adapter.rank:
        raise ConfigError(
            f"{run} learned an adapter, whose averages are not a model's.",
            "Use its RUN/adapter as it is.",
        )
    weights, what = combined(run / "averages", length, images)
    write_model(recipe, weights.items(), out, {"images": what.seen, "average": length})
    print(f"{out}: averaged over {length:.1%} of the run, at {what.seen:,} images")
