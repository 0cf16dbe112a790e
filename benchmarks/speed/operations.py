"""Operations: how many a step asks the device for. A GPU with a small batch waits for these, not for arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: Views by another name: nothing is computed.
_VIEWS = frozenset({"_unsafe_view", "_reshape_alias"})
#: Results that the program must know before it goes on.
_WAITS = frozenset({"_local_scalar_dense", "nonzero"})


@dataclass
class Operations:
    """Counts of one forward and backward pass, the optimiser's left out.

    Attributes:
        count: operations that compute something; each is at least one kernel on a GPU.
        waits: those among them that a GPU's program waits for.
    """

    count: int = 0
    waits: int = 0

    def __str__(self) -> str:
        return f"{self.count} operations, {self.waits} waits"


def count_operations(loss: Callable[[], Tensor]) -> Operations:
    """Of a loss and its gradient."""
    found = Operations()
    with _Counting(found):
        loss().backward()  # type: ignore[no-untyped-call]  # untyped in torch
    return found


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    def __init__(self, found: Operations) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        self.found.count += not (func.is_view or name in _VIEWS)
        self.found.waits += name in _WAITS
        return func(*args, **(kwargs or {}))
