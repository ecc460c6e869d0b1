"""Which GPUs there are, as the driver says it: the node itself imports no torch."""

from __future__ import annotations

import ctypes
from functools import cache

_MB = 1_000_000
_DRIVER = "libcuda.so.1"


@cache
def gpu_memory_mb() -> tuple[int, ...]:
    """The memory of each GPU that this process may use, in MB (10⁶ bytes), in CUDA's order."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(_memory_mb(driver, ordinal) for ordinal in range(count.value))


def _memory_mb(driver: ctypes.CDLL, ordinal: int) -> int:
    device, size = ctypes.c_int(), ctypes.c_size_t()
    if driver.cuDeviceGet(ctypes.byref(device), ordinal):
        return 0
    return 0 if driver.cuDeviceTotalMem_v2(ctypes.byref(size), device) else size.value // _MB
