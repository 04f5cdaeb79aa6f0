"""Run the demo: `python -m demo`; exit status 0 only when every step gave what it promises."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from demo import building, client, data_centre, pool
from demo.steps import Demo, StepFailedError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running and the files in place")
    arguments = parser.parse_args()
    demo = Demo(Path(tempfile.mkdtemp(prefix="gpuferry-demo-")))
    failure: StepFailedError | None = None
    try:
        demo.step("Compile a CUDA program with the stock compiler", building.build_program)
        demo.step("Start a simulated vCenter: three hosts, six GPUs, machines one can log in to", data_centre.start)
        demo.step("Start the appliance and build its signed bundle", pool.start_appliance)
        demo.step("Give it the vCenter", pool.add_vcenter)
        demo.step("Provision two GPU servers: one asked for, one by a tag in vCenter", pool.provision_servers)
        demo.step("Put the tag client on a virtual machine", pool.enable_client)
        demo.step("In that machine, the CUDA program on two slices", client.run_program)
        demo.step("In that machine, CuPy on two slices, compared with NumPy", client.run_cupy)
        demo.step("Four programs at once share every GPU to its last MiB", client.share)
    except StepFailedError as failed:
        failure = failed
    finally:
        demo.summary()
        if arguments.keep:
            demo.tell_what_runs()
        else:
            for action in reversed(demo.undo):
                action()
            shutil.rmtree(demo.work, ignore_errors=True)
    if failure is not None:
        demo.console.print(f"gpuferry demo: a step failed: {failure}", style="bold red", markup=False)
        return 1
    if not arguments.keep:
        demo.console.print("To look around in it with the console: make demo DEMO_FLAGS=--keep")
    demo.console.print("gpuferry demo: all steps passed", style="bold")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
