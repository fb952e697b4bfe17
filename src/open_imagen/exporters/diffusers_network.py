"""A network of ours as a model of diffusers. Written into exported folders, with what it uses."""

from typing import Any

from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config

from open_imagen.models.efficient_unet import EfficientUNet, EfficientUNetConfig
from open_imagen.models.unet import UNet, UNetConfig

NETWORK_CLASSES: dict[str, tuple[Any, Any]] = {
    "unet": (UNetConfig, UNet),
    "efficient_unet": (EfficientUNetConfig, EfficientUNet),
}


class OpenImagenNetwork(ModelMixin, ConfigMixin):
    """A U-Net that predicts from a noisy image, its noise level, the text and a small image."""

    @register_to_config
    def __init__(self, network: str = "unet", settings: dict[str, Any] | None = None) -> None:
        super().__init__()
        config_class, network_class = NETWORK_CLASSES[network]
        self.net = network_class(config_class(**(settings or {})))

    def forward(self, *inputs: Any, encode: bool = False) -> Any:
        """What the network predicts; with ``encode``, what it makes of a text embedding alone."""
        return self.net.encode_text(*inputs) if encode else self.net(*inputs)
