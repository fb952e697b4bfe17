"""Which device to compute on, its free memory, and whether it has bfloat16 arithmetic."""

import os
import platform
import sys
from pathlib import Path

import torch
from torch import Tensor

from open_imagen.errors import ConfigError


def pick_device(name: str = "auto") -> torch.device:
    """The named device, or the best there is.

    Raises:
        ConfigError: a name torch does not know, or a device that is not here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device {name!r} is not available here.", "Use --device cpu, or leave it out."
        ) from error
    return device


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU on the device, without waiting for what that is busy with."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def float64(tensor: Tensor) -> Tensor:
    """A tensor in float64: on its device, or on the CPU where that has none (MPS)."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()


def free_memory(device: torch.device) -> int:
    """Bytes that a program may still take on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        [available] = [line for line in lines if line.startswith("MemAvailable:")]
        return 1024 * int(available.split()[1])
    except (OSError, ValueError):  # not Linux
        return installed_memory()


def installed_memory() -> int:
    """Bytes of memory that are built in; where the system does not say, as Windows, no limit."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return sys.maxsize


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is arithmetic in hardware; elsewhere it is tens of times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def device_name(device: torch.device) -> str:
    """What a device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return _processor()
    return str(device)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
