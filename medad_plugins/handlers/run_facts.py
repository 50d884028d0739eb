"""What a result was made with: versions, machine, size of the network, memory."""

from __future__ import annotations

import platform
import resource
import sys
from pathlib import Path
from typing import Any

import monai
import torch

import medad_plugins
from medad_plugins.protocols import ModuleLike

__all__ = ["run_facts"]


def run_facts(network: ModuleLike) -> dict[str, Any]:
    """Versions, device, sizes and peak memory so far, as plain values by name.

    Keys: ``network`` (class), ``parameters`` and ``fitted_values`` (counts), ``device``, ``threads``,
    ``peak_memory_mib`` (of this process), ``gpu_memory_mib`` (None on a CPU), and the versions ``medad``, ``monai``,
    ``torch`` and ``python``.
    """
    parameters = list(network.parameters())
    device = parameters[0].device if parameters else torch.device("cpu")
    on_gpu = device.type == "cuda"
    return {
        "network": type(network).__name__,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "fitted_values": sum(buffer.numel() for buffer in network.buffers()),
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "threads": torch.get_num_threads(),
        "peak_memory_mib": _peak_memory_mib(),
        "gpu_memory_mib": round(torch.cuda.max_memory_allocated(device) / 2**20) if on_gpu else None,
        "medad": medad_plugins.__version__,
        "monai": monai.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _peak_memory_mib() -> int:
    try:
        # getrusage carries over what the parent had used when it started this process
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return round(int(peak) / 1024)
    except (OSError, ValueError):
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(used / (2**20 if sys.platform == "darwin" else 1024))
