"""Long-running parts of the demo: started as a user would start them, stopped at the end."""

from __future__ import annotations

import select
import signal
import subprocess

from demo.steps import GPUFERRY, ROOT, Demo, StepFailedError

START_SECONDS = 120


def start_service(demo: Demo, *arguments: str, says: bool = True) -> str:
    """Start `gpuferry ARGUMENTS` and give the first line of its output, if it `says` one. Raises StepFailedError."""
    demo.console.print(f"    $ gpuferry {' '.join(arguments)} &", style="dim", markup=False)
    with (demo.work / f"{arguments[0]}.log").open("a") as log:
        process = subprocess.Popen(
            [*GPUFERRY, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE if says else log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    demo.undo.append(lambda: stop(process))
    if not says:
        return ""
    if process.stdout is None or not select.select([process.stdout], [], [], START_SECONDS)[0]:
        raise StepFailedError(f"gpuferry {arguments[0]} said nothing within {START_SECONDS} s")
    line = process.stdout.readline()
    if not line:
        raise StepFailedError(f"gpuferry {arguments[0]} ended:\n{(demo.work / f'{arguments[0]}.log').read_text()}")
    return line


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
