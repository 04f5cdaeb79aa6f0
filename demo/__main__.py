"""Run the demo: `python -m demo`; exit status 0 only when every step gave what it promises."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from demo import pool, software_gpu, vcenter_pool
from demo.steps import Demo, StepFailedError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running and the files in place")
    arguments = parser.parse_args()
    demo = Demo(Path(tempfile.mkdtemp(prefix="gpuferry-demo-")))
    try:
        demo.step("Compile a CUDA program with the stock compiler", software_gpu.build_program)
        demo.step("Run it on two software GPUs", software_gpu.run_program)
        demo.step("Run CuPy on a software GPU and compare with NumPy", software_gpu.run_cupy)
        demo.step("Start the simulated vCenter and add it", vcenter_pool.start_vcenter)
        demo.step("Find the GPUs", vcenter_pool.discover)
        demo.step("Pass them through; one host needs a reboot", vcenter_pool.enable_passthrough)
        demo.step("Create a GPU server VM with 2 GPUs and PVRDMA", vcenter_pool.create_server)
        demo.step("Start the appliance", pool.start_appliance)
        demo.step("Enrol and start two GPU servers with 4 software GPUs each", pool.start_servers)
        demo.step("Enrol four clients", pool.enrol_clients)
        demo.step("Run the same program on 2 slices of the pool", pool.run_program)
        demo.step("Run CuPy on the pool and compare with NumPy", pool.run_cupy)
        demo.step("Four clients share the 8 GPUs at once, with CuPy", pool.share)
    except StepFailedError as failure:
        demo.summary()
        demo.console.print(f"gpuferry demo: a step failed: {failure}", style="bold red", markup=False)
        return 1
    finally:
        if arguments.keep:
            demo.console.print(f"Left running; files in {demo.work}")
        else:
            for action in reversed(demo.undo):
                action()
            shutil.rmtree(demo.work, ignore_errors=True)
    demo.summary()
    demo.console.print("gpuferry demo: all steps passed", style="bold")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
