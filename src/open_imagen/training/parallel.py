"""How a network is spread over the processes of a run: whole in each (DDP) or in shards (FSDP2).

Applied from outside, here and nowhere else: networks, optimisers and averages do not know of it.
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


def spread(network: nn.Module, kind: str) -> nn.Module:
    """What is to be called in training in the network's place.

    ddp: every process has the whole network; gradients are averaged while they are computed.
    fsdp: every process keeps its share of each weight, gradient and optimiser state; blocks are
    put together when they are needed, in float32: autocast chooses what is computed in bfloat16,
    and norms and noise levels must not be.
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
    _unshard_for_read(network)
    return network


def _unshard_for_read(network: nn.Module) -> None:
    """Have every `read` method all-gather the weights that it uses.

    FSDP does so before `forward` alone, but sampling reads the text once, outside of it.
    """
    for block in blocks(network):
        for module in block.modules():
            if (read := _read_of(module)) is not None:
                gathered = functools.partial(_read_in_block, block, module, read)
                module.__dict__["read"] = gathered
    if (read := _read_of(network)) is not None:
        network.__dict__["read"] = functools.partial(_read_in_root, network, read)


def _read_of(module: Any) -> Callable[..., Any] | None:
    return getattr(module, "read", None)


def _read_in_block(block: Any, module: nn.Module, read: Callable[..., Any], text: Any) -> Any:
    if not any(is_shared(weight) for weight in module.parameters()):
        return read(text)  # called within the block's forward, which has gathered them
    block.unshard()
    try:
        return read(text)
    finally:
        block.reshard()


def _read_in_root(network: Any, read: Callable[..., Any], text: Any) -> Any:
    # The root's own weights stay gathered, as they do after its forward; see `reshard`.
    network.unshard()
    return read(text)


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
def gathering(network: nn.Module, last: bool) -> Iterator[None]:
    """Gradients of the parts of a step pile up in each process; only the ``last`` part's backward
    pass brings them together."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(last)
        yield
    elif isinstance(network, DistributedDataParallel) and not last:
        with network.no_sync():
            yield
    else:
        yield


def is_shared(tensor: Tensor) -> bool:
    """Whether a tensor is in shards."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be in shards. Every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """This process's shard of a tensor, or all of one that is not sharded; it shares its memory."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shared_out(full: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, the same in every process, in shards as ``like`` is."""
    if not isinstance(like, DTensor):
        return full
    spread: Any = distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)
    return spread  # type: ignore[no-any-return]
