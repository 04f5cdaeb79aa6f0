"""A program that computes on all of its GPUs until it is told to end, and checks every result.

It says `working` after its first round, and at the end, when a line comes on standard input, `right N` with the number
of rounds; the first wrong result or CUDA error ends it with status 1.
"""

from __future__ import annotations

import ctypes
import select
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gpuserver" / "forwarding"))

from driver_api import Driver, words

COUNT = 5000

if __name__ == "__main__":
    driver = Driver()
    gpus = ctypes.c_int()
    driver.ok("cuDeviceGetCount", ctypes.byref(gpus))
    parts = []
    for ordinal in range(gpus.value):
        context = ctypes.c_void_p()
        driver.ok("cuDevicePrimaryCtxRetain", ctypes.byref(context), ordinal)
        driver.ok("cuCtxSetCurrent", context)
        place = driver.allocate(4 * COUNT)
        driver.upload(place, bytes(4 * COUNT))
        parts.append((context, place, driver.load()))
    rounds = 0
    while True:
        rounds += 1
        for context, place, function in parts:
            driver.ok("cuCtxSetCurrent", context)
            result = driver.launch(function, place, COUNT)
            assert result == 0, f"cuLaunchKernel = {result}"
            assert set(words(driver.download(place, 4 * COUNT))) == {rounds}, "a wrong sum"
        if rounds == 1:
            print("working", flush=True)
        if select.select([sys.stdin], [], [], 0.01)[0]:
            break
    print("right", rounds, flush=True)
