"""imagen serve: pictures over HTTP, and the studio page."""

import contextlib
import importlib
import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from open_imagen.cli.generate import Device, Fast, Precision
from open_imagen.errors import ConfigError, MissingDependency

if TYPE_CHECKING:
    from open_imagen.server.service import Filter


def serve(
    models: list[str] = typer.Option(
        ["scenes"], "--model", "-m", help="A shipped model, a folder, or hf:org/name; may repeat."
    ),
    host: str = typer.Option("127.0.0.1", "--host", help="Address to listen on."),
    port: int = typer.Option(8000, "--port", help="Port to listen on; 0 for a free one."),
    key_file: Path = typer.Option(
        None, "--api-key-file", metavar="F", help="API keys, one a line, perhaps NAME:KEY."
    ),
    gallery: Path = typer.Option(
        None, "--gallery", metavar="DIR", help="Keep images there; without it, until the end."
    ),
    keep: int = typer.Option(
        10_000, "--keep", help="Images kept of those made here; the oldest go first."
    ),
    batch_size: int = typer.Option(8, "--batch-size", help="Pictures drawn together at most."),
    queue_size: int = typer.Option(64, "--queue", help="Pictures waiting at most; then 429."),
    deadline: float = typer.Option(600, "--deadline", help="Seconds until a request is given up."),
    most_pixels: int = typer.Option(1024 * 1024, "--max-pixels", help="Of one picture."),
    origins: list[str] = typer.Option(
        [], "--cors", metavar="ORIGIN", help="Let pages of this site ask; may repeat."
    ),
    log_prompts: bool = typer.Option(False, "--log-prompts", help="Write prompts into the log."),
    content_filter: str = typer.Option(
        None, "--filter", metavar="MODULE:FUNCTION", help="(prompt, picture or None) -> why not."
    ),
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
) -> None:
    """Serve the OpenAI Images API and the studio page.

    SIGTERM and Ctrl+C finish what is running and then end.
    """
    try:
        from open_imagen.server.api import make_app
        from open_imagen.server.middleware import Counters, JsonLines
        from open_imagen.server.run import serve as run
        from open_imagen.server.service import Service
    except ImportError as error:
        raise MissingDependency(
            f"Serving needs a web server ({error}).", 'Run: pip install "open-imagen[serve]"'
        ) from error
    from open_imagen.cascade.pipeline import Cascade, load
    from open_imagen.server.auth import read_keys
    from open_imagen.server.gallery import Gallery
    from open_imagen.server.sockets import listen
    from open_imagen.server.worker import Worker

    if deadline <= 0 or keep < 1 or most_pixels < 64 * 64 or batch_size < 1 or queue_size < 1:
        raise ConfigError(
            "--deadline must be above 0; --keep, --batch-size and --queue at least 1, --max-pixels"
            " at least 4096."
        )
    keys = read_keys(key_file) if key_file is not None else None
    chosen = load_filter(content_filter) if content_filter else None
    if keys is None and host not in ("127.0.0.1", "localhost", "::1"):
        print(f"Warning: anyone who reaches {host} may use this server.", file=sys.stderr)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("open_imagen").setLevel(logging.INFO)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        if gallery is None:
            temporary = tempfile.TemporaryDirectory(prefix="imagen-gallery-")
            gallery = Path(stack.enter_context(temporary))
        kept = stack.enter_context(contextlib.closing(Gallery(gallery, keep)))
        cascades: dict[str, Cascade] = {}
        for name in models:
            cascades[name if name not in cascades else f"{name}-{len(cascades)}"] = load(
                name, device, fast=fast, precision=precision or "fp32"
            )
        for cascade in cascades.values():
            cascade.text(["warm"])  # the first caller shall not wait for the language model
        counters = Counters()
        service = Service(
            cascades=cascades,
            gallery=kept,
            worker=Worker(cascades, batch_size, queue_size, counters),
            counters=counters,
            keys=keys,
            deadline=deadline,
            most_pixels=most_pixels,
            origins=tuple(origins),
            log_prompts=log_prompts,
            filter=chosen,
        )
        place = listener.getsockname()
        print(
            f"Studio at http://{place[0]}:{place[1]}/  API at /v1, description at /docs",
            flush=True,
        )
        run(make_app(service), service, listener)


def load_filter(text: str) -> "Filter":
    """The content filter "module:function".

    Raises:
        ConfigError: there is no such function.
    """
    module, _, name = text.partition(":")
    try:
        found: Filter = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--filter {text} cannot be loaded: {error}.", "Write --filter MODULE:FUNCTION."
        ) from error
    return found
