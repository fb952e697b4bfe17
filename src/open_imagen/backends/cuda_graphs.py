"""CUDA graphs: a call's kernels are captured once and replayed; nothing waits between them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

MAX_GRAPHS = 8
"""Input shapes whose graphs a `GraphedCallable` keeps."""
WARMUP_CALLS = 3


class CapturedCall:
    """One call of a function of tensors, captured, with static inputs and a static output."""

    def __init__(self, function: Callable[..., Any], arguments: Any, pool: Any = None) -> None:
        """Capture a call as a CUDA graph.

        Args:
            arguments: tensors in tuples and lists; others of the same shapes can be replayed.
            pool: memory shared with other graphs, which are never replayed at the same time.
        """
        leaves, structure = pytree.tree_flatten(arguments)
        self.static_inputs = [leaf.clone() for leaf in leaves]
        self._copied: Sequence[Tensor | None] = [None] * len(leaves)
        inputs = pytree.tree_unflatten(self.static_inputs, structure)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with cudnn_benchmark():
            with torch.cuda.stream(stream):  # compiles, chooses algorithms, allocates
                for _ in range(WARMUP_CALLS):
                    function(*inputs)
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            # Other threads may go on with their own work meanwhile.
            with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
                self.output = function(*inputs)

    def replay(self, leaves: Sequence[Tensor]) -> Any:
        """The output for these leaves of the arguments; overwritten by the next replay."""
        # The same object as last time is copied already, as long as nobody writes into it.
        pairs = enumerate(zip(leaves, self._copied, strict=True))
        new = [k for k, (leaf, copied) in pairs if leaf is not copied]
        if new:
            torch._foreach_copy_([self.static_inputs[k] for k in new], [leaves[k] for k in new])
        self._copied = leaves
        self.graph.replay()
        return self.output


class GraphedCallable:
    """A network's call without gradients, captured for each shape; outputs are copies."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self._graphs: dict[Any, CapturedCall] = {}
        self._pool: Any = None

    def __call__(self, *arguments: Any) -> Tensor:
        """(z, level, text, lowres), as the network takes them."""
        if not torch.is_inference_mode_enabled():
            return self.function(*arguments)
        arguments = tuple(one for one in arguments if one is not None)
        leaves, structure = pytree.tree_flatten(arguments)
        key = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if key not in self._graphs:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            while len(self._graphs) >= MAX_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[key] = CapturedCall(self.function, arguments, self._pool)
        out: Tensor = self._graphs[key].replay(leaves)
        return out.clone()


@contextlib.contextmanager
def cudnn_benchmark() -> Iterator[None]:
    """Let cuDNN time its convolutions at new shapes and keep the fastest.

    That pays because a captured call is replayed many times.
    """
    # torch's own cudnn.flags() would set all others too, such as allow_tf32.
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
