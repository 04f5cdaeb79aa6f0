"""The control link's socket is used by several threads: what they send while it stops must not end the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# libzmq ends a process that uses a socket while another thread closes it, so this is one of its own.
PROGRAM = """
import threading, time
from gpuserver.protocol.control.curve import Identity, new_keys
from gpuserver.protocol.control.link import ControlLink
from gpuserver.protocol.control.messages import Goodbye, Hello

public, secret = new_keys()
who = Identity("s1", "server", "server", public, secret, public, ("tcp://127.0.0.1:9",))
hello = Hello(role="server", instance="i", version="1", hostname="h", host="h", address="", has_rdma=False,
              cuda_version=0, driver_version="", gpus=(), held=())
sent = 0

def speak(link, over):
    global sent
    while not over.is_set():
        link.send(Goodbye("i", "of a pool's thread"))
        sent += 1

for turn in range(60):
    link, over = ControlLink(who, "i", lambda: hello, lambda content, reply: None), threading.Event()
    link.start()
    speakers = [threading.Thread(target=speak, args=(link, over)) for _ in range(6)]
    for speaker in speakers:
        speaker.start()
    time.sleep(0.005)
    link.stop("over")
    link.send(Goodbye("i", "too late"))
    over.set()
    for speaker in speakers:
        speaker.join()
print("stopped 60 times", sent > 60)
"""


def test_threads_may_send_while_the_link_stops() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "stopped 60 times True\n"), done.stderr[-3000:]
