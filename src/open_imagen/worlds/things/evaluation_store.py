"""Images and judgements of an evaluation, kept in its folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from open_imagen.cascade.alpha import premultiplied, straight
from open_imagen.errors import CheckpointError, ConfigError, OutputError
from open_imagen.evaluation.metrics.records import digest
from open_imagen.storage import atomic, read_json, write_json
from open_imagen.worlds.things.suite import Prompt


class Store:
    """Images and judgements in a folder, or in memory alone."""

    def __init__(self, out: Path | None, run: dict[str, Any], look: dict[str, Any]) -> None:
        """Open the folder of an evaluation, or create it.

        Args:
            run: what images depend on beside their prompts.
            look: what judgements depend on beside images.
        """
        self.out = out
        self.rows: dict[str, list[dict[str, Any]]] = {}
        if out is None:
            return
        header = json.loads(json.dumps(run))
        path = out / "run.json"
        if path.is_file():
            try:
                kept = read_json(path)
            except CheckpointError as error:
                raise ConfigError(f"{error}", f"Remove {out}, or choose another --out.") from error
            if kept != header:
                raise ConfigError(
                    f"{out} holds another evaluation (model, seed, stages or settings differ).",
                    "Choose another --out, or remove that folder.",
                )
        else:
            write_json(path, header)
        self.path = out / f"judgements-{digest(look)[:10]}.jsonl"
        if self.path.is_file():
            self._read()

    def _read(self) -> None:
        for line in self.path.read_text(encoding="utf-8").split("\n")[:-1]:
            # A line cut short by a kill has no end, and is made again.
            try:
                row = json.loads(line)
            except ValueError:
                continue
            rows = self.rows.setdefault(row["category"], [])
            if row["k"] == len(rows):
                rows.append(row)

    def judged(self, name: str, k: int, prompt: Prompt) -> bool:
        """Whether the judgement of this prompt is known."""
        rows = self.rows.get(name, [])
        return k < len(rows) and rows[k]["prompt"] == prompt.text

    def add(
        self, name: str, start: int, prompts: Sequence[Prompt], found: Sequence[dict[str, Any]]
    ) -> None:
        """Keep judgements."""
        rows = self.rows.setdefault(name, [])[:start]
        new = [
            {"category": name, "k": start + k, "prompt": one.text, "parts": one.parts, **row}
            for k, (one, row) in enumerate(zip(prompts, found, strict=True))
        ]
        self.rows[name] = rows + new
        if self.out is None:
            return
        try:
            with self.path.open("a+", encoding="utf-8") as file:
                # After a kill the last line may lack its end.
                whole = file.tell() == 0 or self.path.read_bytes().endswith(b"\n")
                file.write(("" if whole else "\n") + "".join(json.dumps(r) + "\n" for r in new))
        except OSError as error:
            raise OutputError(f"Cannot write {self.path}: {error.strerror}.") from error

    def _file(self, name: str, k: int) -> Path:
        assert self.out is not None
        return self.out / "images" / name / f"{k:05}.png"

    def image(self, name: str, k: int, prompt: Prompt) -> Tensor | None:
        """A kept image of this prompt, premultiplied RGBA; None if there is none, or a damaged one.

        Every PNG holds its prompt: prompts of another number or atlas make other images.
        """
        if self.out is None or not (path := self._file(name, k)).is_file():
            return None
        try:
            with Image.open(path) as image:
                if image.info.get("prompt") != prompt.text:
                    return None
                return premultiplied(image)
        except OSError:
            return None

    def keep(self, name: str, k: int, prompt: Prompt, image: Tensor) -> Tensor:
        """Write an image, and return it as it is read back: [4, S, S]."""
        from PIL.PngImagePlugin import PngInfo

        pixels = straight(image) if len(image) == 4 else image
        picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        if self.out is not None:
            info = PngInfo()
            info.add_itxt("prompt", prompt.text)
            with atomic(self._file(name, k)) as temporary:
                picture.save(temporary, "PNG", pnginfo=info)
        return premultiplied(picture)
