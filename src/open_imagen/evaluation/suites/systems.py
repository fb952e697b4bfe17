"""What makes pictures, on equal terms: our cascades, folders, diffusers, and image endpoints.

Every adapter meets one small contract, `System`: given requests, it returns the images in
order. Nothing above it knows which it is.
"""

import base64
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.folder import locate
from open_imagen.cascade.io import load
from open_imagen.cascade.metadata import plain_sampling
from open_imagen.cascade.sampling import Sampling
from open_imagen.data.images import SkippedExample, decode
from open_imagen.errors import ConfigError, DataError, MissingDependency
from open_imagen.evaluation.image_set import open_images, read_image


class ImageRequest(NamedTuple):
    """An image that is requested."""

    prompt: str
    sample: int
    """Which one of this prompt, 0 and up."""
    seed: int


class System(Protocol):
    """A maker of pictures."""

    name: str
    batch: int
    """How many it likes to make together."""

    def record(self) -> dict[str, Any]:
        """What it is, as exactly as it can be known."""
        ...

    def draw(self, requests: Sequence[ImageRequest]) -> list[Image.Image]:
        """The pictures, in order, RGB."""
        ...


class CascadeSystem:
    """A cascade of ours, with its settings."""

    def __init__(
        self,
        cascade: Cascade,
        settings: Mapping[str, Sampling] | None = None,
        stages: int | None = None,
        batch: int = 16,
        negative: str | None = None,
    ) -> None:
        self.cascade, self.settings, self.stages = cascade, dict(settings or {}), stages
        self.name, self.batch, self.negative = cascade.name, batch, negative

    def record(self) -> dict[str, Any]:
        """The settings that its images depend on, in plain values."""
        chosen = self.cascade.chosen(self.stages)
        complete = self.cascade.complete_settings(chosen, self.settings, self.negative)
        record = {
            "kind": "cascade",
            **self.cascade.identity,
            "encoder": self.cascade.config.encoder,
            "settings": {name: plain_sampling(one) for name, one in complete.items()},
        }
        return record | ({"negative": self.negative} if self.negative else {})

    def draw(self, requests: Sequence[ImageRequest]) -> list[Image.Image]:
        """An image for each request."""
        return self.cascade.generate(
            [request.prompt for request in requests],
            seed=[request.seed for request in requests],
            settings=self.settings,
            stages=self.stages,
            batch_size=self.batch,
            negative=self.negative,
        ).images


class FolderSystem:
    """Captioned pictures in a folder; the k-th of a prompt is its sample k."""

    def __init__(self, folder: Path) -> None:
        """Read the captions of the images in a folder.

        Raises:
            DataError: there are no pictures, or they have no captions.
        """
        self.images = open_images(folder)
        self.name, self.batch = folder.resolve().name, 64
        self.by_prompt: dict[str, list[Path]] = {}
        for file, caption in zip(self.images.files, self.images.asked(), strict=True):
            self.by_prompt.setdefault(caption.strip(), []).append(file)

    def record(self) -> dict[str, Any]:
        """The settings that its images depend on, in plain values."""
        return {"kind": "folder", "name": self.name, "sha256": self.images.digest}

    def draw(self, requests: Sequence[ImageRequest]) -> list[Image.Image]:
        """The image in the folder for each request.

        Raises:
            DataError: the folder has too few images of a prompt.
        """
        images = []
        for request in requests:
            files = self.by_prompt.get(request.prompt.strip(), [])
            if request.sample >= len(files):
                raise DataError(
                    f"{self.images.folder} has {len(files)} pictures of {request.prompt!r}; "
                    f"number {request.sample + 1} is wanted.",
                    "Ask for fewer images per prompt, or compare on prompts that it has.",
                )
            images.append(read_image(files[request.sample]))
        return images


class DiffusersSystem:
    """A text-to-image pipeline of diffusers, with its own defaults or given arguments."""

    def __init__(self, source: str, device: torch.device, arguments: Mapping[str, Any]) -> None:
        """Load the pipeline.

        Raises:
            MissingDependency: diffusers is not installed.
            DataError: it cannot load the pipeline.
        """
        try:
            from diffusers import DiffusionPipeline
        except (ImportError, RuntimeError) as error:
            raise MissingDependency(
                f"diffusers cannot be used ({error}).", "Run: pip install diffusers"
            ) from error
        try:
            self.pipeline: Any = DiffusionPipeline.from_pretrained(source, use_safetensors=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(
                f"diffusers cannot load {source}: {str(error).strip()}",
                "Only pipelines with safetensors are opened.",
            ) from error
        self.pipeline = self.pipeline.to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.source, self.arguments = source, dict(arguments)
        self.batch = int(self.arguments.pop("batch", 4))
        self.name = Path(source).name

    def record(self) -> dict[str, Any]:
        """The settings that its images depend on, in plain values."""
        import diffusers

        return {
            "kind": "diffusers",
            "source": self.source,
            "pipeline": type(self.pipeline).__name__,
            "arguments": self.arguments,
            "diffusers": diffusers.__version__,
        }

    def draw(self, requests: Sequence[ImageRequest]) -> list[Image.Image]:
        """An image for each request."""
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        prompts = [request.prompt for request in requests]
        made = self.pipeline(prompts, generator=generators, output_type="pil", **self.arguments)
        return [image.convert("RGB") for image in made.images]


class EndpointSystem:
    """An endpoint that speaks the OpenAI Images API; the key is $OPENAI_API_KEY."""

    patience = 6
    """Tries of one picture while the endpoint says that it is busy, or does not answer."""

    def __init__(self, url: str, arguments: Mapping[str, Any]) -> None:
        """Prepare requests to an HTTP endpoint.

        Args:
            url: the base, as the official client wants it: http://host/v1.
            arguments: sent with every request: model, size, quality ...; "seeds" = 1 sends each
                picture's seed too, for endpoints that know it.
        """
        self.url, self.arguments = url.rstrip("/"), dict(arguments)
        self.seeds = str(self.arguments.pop("seeds", "0")) == "1"
        self.timeout = float(self.arguments.pop("timeout", 600))
        self.batch = int(self.arguments.pop("parallel", 4))
        self.name = str(self.arguments.get("model", urllib.parse.urlsplit(url).netloc))

    def record(self) -> dict[str, Any]:
        """The settings that its images depend on, in plain values."""
        return {"kind": "endpoint", "url": self.url, "arguments": self.arguments}

    def draw(self, requests: Sequence[ImageRequest]) -> list[Image.Image]:
        """An image for each request."""
        with ThreadPoolExecutor(self.batch) as pool:
            return list(pool.map(self._one, requests))

    def _one(self, request: ImageRequest) -> Image.Image:
        body = {"prompt": request.prompt, "n": 1, **self.arguments}
        if self.seeds:
            body["seed"] = request.seed
        answer = json.loads(self._ask(f"{self.url}/images/generations", body))
        try:
            [first] = answer["data"]
            if first.get("b64_json"):
                data = base64.b64decode(first["b64_json"])
            else:
                data = self._ask(str(first["url"]))
            return decode(data)
        except (KeyError, TypeError, ValueError, SkippedExample) as error:
            raise DataError(f"{self.url} answered without a picture: {error}.") from error

    def _ask(self, url: str, body: dict[str, Any] | None = None) -> bytes:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise DataError(f"{url} is not a web address.")
        headers = {"Content-Type": "application/json"}
        key = os.environ.get("OPENAI_API_KEY")
        data = None if body is None else json.dumps(body).encode()
        why = ""
        for attempt in range(self.patience):
            request = urllib.request.Request(url, data, headers)
            if key and url.startswith(self.url):  # and never on to where a redirect leads
                request.add_unredirected_header("Authorization", f"Bearer {key}")
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    content: bytes = answer.read()
                return content
            except urllib.error.HTTPError as error:
                why = f"{error.code} {_message(error)}"
                if error.code not in (408, 409, 429) and error.code < 500:
                    break
                wait = error.headers.get("Retry-After", "")
                time.sleep(min(float(wait), 60) if wait.isdecimal() else 2.0**attempt / 2)
            except (OSError, ValueError) as error:
                why = str(error)
                time.sleep(2.0**attempt / 2)
        raise DataError(f"{url} does not give a picture: {why}.")


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return str(error.reason)


def open_system(
    spec: str,
    device: torch.device,
    settings: Callable[[Cascade], Mapping[str, Sampling]] | None = None,
    stages: int | None = None,
    batch: int | None = None,
    fast: bool = False,
    precision: str = "fp32",
) -> System:
    """A system from a word on the command line.

    "folder:PATH", "diffusers:PATH?num_inference_steps=20", "openai:http://host/v1?model=NAME", or
    a model as everywhere: a shipped name, a folder, "hf:org/name", and ``fast`` and ``precision``
    are its own (see Cascade).

    Raises:
        ConfigError: an argument of it cannot be read.
        OpenImagenError: it cannot be had.
    """
    kind, _, rest = spec.partition(":")
    if kind == "folder":
        return FolderSystem(Path(rest))
    if kind in ("diffusers", "openai"):
        source, _, query = rest.partition("?")
        arguments = {key: _value(text) for key, text in urllib.parse.parse_qsl(query)}
        if not source:
            raise ConfigError(f"{spec} names nothing.", f"Write {kind}:SOURCE?argument=value.")
        if kind == "openai":
            return EndpointSystem(source, arguments)
        return DiffusersSystem(source, device, arguments)
    locate(spec)
    cascade = load(spec, device=str(device), fast=fast, dtype=precision)
    chosen = settings(cascade) if settings is not None else None
    return CascadeSystem(cascade, chosen, stages, batch or 16)


def _value(text: str) -> Any:
    """A number if it reads as one.

    >>> _value("20"), _value("7.5"), _value("256x256")
    (20, 7.5, '256x256')
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
