"""OpenVinoRunner: the encoder as OpenVINO runs it on a CPU, where that is installed (``pip install openvino``)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from lpd.errors import ConfigError
from lpd.inference.recording import recorded


def openvino_precisions() -> tuple[str, ...]:
    """``f32``, and ``bf16`` where the processor has instructions for it; none without a working OpenVINO."""
    if find_spec("openvino") is None:
        return ()
    try:
        able = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except Exception:  # a library that does not fit its neighbours fails in many ways
        return ()
    return ("f32", "bf16") if "BF16" in able else ("f32",)


@cache
def _core() -> Any:
    """OpenVINO, once for the whole process, and kept from reporting to its maker.

    As it is imported, and in convert_model, it would call a server. And each core gives signals a stack of their own
    and takes it away when it ends: of two, the stack that is left may be one that is gone, and SIGTERM would crash.
    """
    # With None in its place the reporting package cannot be imported, and OpenVINO takes a stub that does nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino.Core()


class OpenVinoRunner:
    """See :data:`lpd.inference.runners.Runner`. It is translated at the first images of a shape, in about two seconds.

    Raises:
        ConfigError: OpenVINO is not installed here, or cannot compute on this device or in this precision.
    """

    def __init__(self, encoder: nn.Module, device: torch.device, precision: str) -> None:
        able = openvino_precisions()
        if not able:
            raise ConfigError("OpenVINO is not installed: pip install openvino, or choose --backend auto")
        if device.type != "cpu":
            raise ConfigError(f"OpenVINO runs on the CPU here, not on {device}: choose --device cpu or --backend auto")
        if precision not in able:
            raise ConfigError(f"this processor does not compute {precision}: choose --backend openvino, or auto")
        self._encoder, self._precision = encoder, precision
        self._translated: dict[tuple[int, ...], Any] = {}

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        key = (*images.shape, torch.get_num_threads())
        if key not in self._translated:
            try:
                self._translated[key] = self._translate(images)
            except Exception as error:  # OpenVINO's own errors have no common base
                raise ConfigError(
                    f"OpenVINO cannot run this encoder ({str(error)[:200]}): choose --backend torch, or auto"
                ) from error
        # By index; what is given is a copy, which the next call leaves as it is.
        found = self._translated[key]([images.contiguous().numpy()])
        return [torch.from_numpy(found[i]) for i in range(len(found))]

    def _translate(self, images: Tensor) -> Any:
        core = _core()  # before anything else of OpenVINO is imported
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        script = recorded(self._encoder, images)
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(script, example_input=(torch.zeros_like(images),))
        model = frontend.convert(frontend.load(decoder))
        model.reshape({0: list(images.shape)})
        settings = {"INFERENCE_PRECISION_HINT": self._precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        return core.compile_model(model, "CPU", {**settings, "PERFORMANCE_HINT": "LATENCY"})
