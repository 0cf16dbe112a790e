"""timm without PyTorch's compiler, which takes 3 s of CPU to import and which only ``torch.compile`` needs.

Two places ask for it while timm is imported: torchvision's ``roi_align``, for a function that it calls when it is
itself compiled, and decorators of some of timm's models that keep the compiler off a function. So for as long as the
import lasts a stand-in holds the compiler's name, and loads the compiler when somebody does ask it something; and the
decorators do nothing. Whoever compiles such a model later compiles that function too, or falls back on running it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch.compiler
from torch.overrides import TorchFunctionMode

#: Functions of ``torch.nn.init`` and methods of tensors that fill new weights.
_FILLING = frozenset(
    f"{name}_"
    for name in (
        *("normal", "uniform", "trunc_normal", "erfinv", "fill", "zero", "constant", "ones", "zeros"),
        *("kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform"),
    )
)
_COMPILER, _UTILS = "torch._dynamo", "torch._dynamo.utils"


@contextmanager
def _without_compiler() -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    package, utils = ModuleType(_COMPILER), ModuleType(_UTILS)
    package.__path__ = []
    utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    disable = torch.compiler.disable
    sys.modules.update({_COMPILER: package, _UTILS: utils})
    torch.compiler.disable = _as_it_is
    try:
        yield
    finally:
        torch.compiler.disable = disable
        for name, module in ((_COMPILER, package), (_UTILS, utils)):
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(_UTILS).is_compile_supported(device_type))


def _as_it_is(fn: Callable[..., Any] | None = None, *_: object, **__: object) -> Callable[..., Any]:
    return fn if fn is not None else _as_it_is


def _imported() -> ModuleType:
    before = set(sys.modules)
    try:
        with _without_compiler():
            return importlib.import_module("timm")
    except Exception:  # another version asks for more of the compiler: then it gets it
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in ("timm", "torchvision"):
                del sys.modules[name]
        return importlib.import_module("timm")


timm = _imported()


class unfilled(TorchFunctionMode):  # noqa: N801  # used as a function is
    """In a ``with`` block on the device ``meta``: weights are made and not filled.

    Filling what has no memory goes through PyTorch's Python kernels, which import the compiler.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
