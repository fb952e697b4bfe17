"""DreamBooth: images of one subject beside images of its class (prior preservation)."""

from dataclasses import dataclass
from typing import Any

from open_imagen.data.mixture import Several
from open_imagen.data.registry import SOURCES
from open_imagen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DreamBoothConfig:
    """Prior preservation (Ruiz et al. 2023, section 4.2)."""

    instance: dict[str, Any]
    """Images of the subject, from any source; captions contain its rare name."""
    prior: dict[str, Any]
    """Pictures of its kind, made by the model itself before, with the kind alone as caption."""
    kind: str = "dreambooth"
    prior_weight: float = 1.0
    """Loss weight of images of the class (the paper's lambda)."""

    def __post_init__(self) -> None:
        if not self.prior_weight > 0:
            raise ConfigError(f"data.prior_weight = {self.prior_weight} must be above 0.")


class DreamBooth(Several):
    """Even examples are of the thing, odd ones of its kind."""

    def __init__(self, config: DreamBoothConfig, device: str = "cpu") -> None:
        super().__init__((config.instance, config.prior), device)
        self.config = config

    def parts(self) -> list[tuple[str, Any]]:
        """The sources by name."""
        return list(zip(("instance", "prior"), self.sources, strict=True))

    def turn(self, index: int) -> tuple[int, int, float]:
        """Of an example: which source it is from, its number there, and its loss weight."""
        return index % 2, index // 2, (1.0, self.config.prior_weight)[index % 2]

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        instance, prior = (source.describe() for source in self.sources)
        weight = self.config.prior_weight
        return {"kind": "dreambooth", "instance": instance, "prior": prior, "prior_weight": weight}


SOURCES.register("dreambooth")((DreamBoothConfig, DreamBooth))
