"""Data parallelism over the processes of a run: replicas (DDP) or shards (FSDP2).

Applied from outside, here and nowhere else: networks, optimisers and EMA do not depend on it.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from open_imagen.distributed import world


def parallelize(network: nn.Module, kind: str) -> nn.Module:
    """The module to call in training in place of the network.

    ddp: every process has a replica; gradients are averaged while they are computed.
    fsdp: every process keeps a shard of each weight, gradient and optimiser state. The weights of
    a block are gathered when they are needed, in float32: autocast chooses what is computed in
    bfloat16, and norms and noise levels must not be.
    """
    if world().size == 1:
        return network
    device = next(network.parameters()).device
    if kind == "ddp":
        return DistributedDataParallel(
            network, device_ids=[device.index] if device.type == "cuda" else None
        )
    mesh = init_device_mesh(device.type, (world().size,))
    for block in blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    _unshard_for_text(network)
    return network


def _unshard_for_text(network: nn.Module) -> None:
    """Have every `encode_text` method all-gather the weights that it uses.

    FSDP does so before `forward` alone, but sampling encodes the text once, outside of it.
    """
    for block in blocks(network):
        for module in block.modules():
            if (encode := _encode_text_of(module)) is not None:
                unsharded = functools.partial(_encode_text_in_block, block, module, encode)
                module.__dict__["encode_text"] = unsharded
    if (encode := _encode_text_of(network)) is not None:
        network.__dict__["encode_text"] = functools.partial(_encode_text_in_root, network, encode)


def _encode_text_of(module: Any) -> Callable[..., Any] | None:
    return getattr(module, "encode_text", None)


def _encode_text_in_block(
    block: Any, module: nn.Module, encode: Callable[..., Any], text: Any
) -> Any:
    if not any(is_sharded(weight) for weight in module.parameters()):
        return encode(text)  # called within the block's forward, which has gathered them
    block.unshard()
    try:
        return encode(text)
    finally:
        block.reshard()


def _encode_text_in_root(network: Any, encode: Callable[..., Any], text: Any) -> Any:
    # The root's own weights stay gathered, as they do after its forward; see `reshard`.
    network.unshard()
    return encode(text)


def reshard(network: nn.Module) -> None:
    """Leave every weight in shards: the root's stay gathered after a forward without backward."""
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def blocks(network: nn.Module) -> list[nn.Module]:
    """The repeated parts of a network: what its lists hold."""
    lists = (child for child in network.children() if isinstance(child, nn.ModuleList))
    return [block for children in lists for block in children]


@contextlib.contextmanager
def no_sync(network: nn.Module, enabled: bool = True) -> Iterator[None]:
    """Accumulate gradients in each process without reducing them over processes, if ``enabled``."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(not enabled)
        yield
    elif isinstance(network, DistributedDataParallel) and enabled:
        with network.no_sync():
            yield
    else:
        yield


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process has a shard of this tensor."""
    return isinstance(tensor, DTensor)


def full_tensor(tensor: Tensor) -> Tensor:
    """The full tensor, gathered if it is sharded: a collective, which every process must call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """The shard of this process, or a tensor that is not sharded; it shares its memory."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shard_like(full: Tensor, like: Tensor) -> Tensor:
    """Shard a full tensor, the same in every process, as ``like`` is sharded, if it is."""
    if not isinstance(like, DTensor):
        return full
    shards: Any = distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)
    return shards  # type: ignore[no-any-return]
