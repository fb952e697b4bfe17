"""Work of a GPU recorded once and played again (CUDA graphs): nothing waits between its kernels."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor


class Recording:
    """One call of a function of tensors, with places of its own for what goes in and out."""

    def __init__(self, call: Callable[..., Any], given: Any, pool: Any = None) -> None:
        """
        Args:
            given: the arguments, tensors in tuples and lists; others of the same shapes can be
                played later.
            pool: memory shared with other recordings, which are never played at the same time.
        """
        flat, form = pytree.tree_flatten(given)
        self.places = [one.clone() for one in flat]
        self.holds: Sequence[Tensor | None] = [None] * len(flat)
        own = pytree.tree_unflatten(self.places, form)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with trying_convolutions():
            with torch.cuda.stream(aside):  # compiles, chooses algorithms, takes memory
                for _ in range(3):
                    call(*own)
            torch.cuda.current_stream().wait_stream(aside)
            self.graph = torch.cuda.CUDAGraph()
            # Other threads may go on with their own work meanwhile.
            with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
                self.out = call(*own)

    def play(self, flat: Sequence[Tensor]) -> Any:
        """What the call gives for these leaves of its arguments; written over by the next."""
        # What is the same object as before is there already, as long as nobody writes into it.
        pairs = enumerate(zip(flat, self.holds, strict=True))
        new = [place for place, (one, held) in pairs if one is not held]
        if new:
            torch._foreach_copy_([self.places[k] for k in new], [flat[k] for k in new])
        self.holds = flat
        self.graph.replay()
        return self.out


@contextlib.contextmanager
def trying_convolutions() -> Iterator[None]:
    """Let cuDNN time its convolutions at new shapes and keep the fastest: what is recorded is
    played many times."""
    # torch's own cudnn.flags() would set all others too, such as allow_tf32.
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
