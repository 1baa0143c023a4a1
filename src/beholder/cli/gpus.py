"""What `doctor` tells of GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beholder.cli.output import bytes_text

DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU, where NVIDIA's driver is


def driver_gpus() -> list[str]:
    """Names of NVIDIA's GPUs as the driver tells them on Linux; torch is not asked."""
    names = []
    for file in sorted(DRIVER.glob("*/information")):
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    return names


def torch_gpus() -> list[dict[str, Any]]:
    """What torch can compute on: names, bytes of memory in all and free, capability, and whether steps of answers become CUDA
    graphs there.
    """
    import torch

    from beholder.speed.graphs import allowed

    found = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        found.append(
            {
                "name": properties.name,
                "memory": total,
                "free": free,
                "capability": f"{properties.major}.{properties.minor}",
                "graphs": allowed(),
            }
        )
    return found


def gpu_line(gpu: dict[str, Any]) -> str:
    """One GPU in words."""
    graphs = "as CUDA graphs" if gpu["graphs"] else "not recorded: BEHOLDER_GRAPHS=0"
    memory = f"{bytes_text(gpu['memory'])}, {bytes_text(gpu['free'])} free"
    return f"{gpu['name']}, {memory}, capability {gpu['capability']}, steps {graphs}"
