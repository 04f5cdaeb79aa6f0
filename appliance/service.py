"""The running appliance: the control loop, the REST API and the hourly housekeeping of one process."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

import structlog
import uvicorn

from appliance import certificates
from appliance.api.app import make_app
from appliance.control import ControlLoop
from appliance.driving import Driving
from appliance.ids import new_id
from appliance.retention import forget_old
from appliance.runs.engine import RunEngine
from appliance.runs.work import Ground
from appliance.site import Site
from appliance.state.database import DatabaseGoneError, migrate, open_database, patiently
from appliance.vcenters import Vcenters
from gpuserver.protocol.control.standing import AWAY, CONNECTED, Standing, service_standing

log = structlog.get_logger(__name__)
HOUSEKEEPING_S = 3600.0
UP_LOOK_S = 0.1
RENEW_CERTIFICATE_DAYS = 30
LONGEST_HEAD = 65536
"""Bytes of a request ahead of its content, however it arrives; a longer one is refused with 400 at once."""


def serve(site: Site) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit status."""
    config = site.config
    patiently(lambda: migrate(config.database))
    engine = open_database(config.database)
    if config.tls and certificates.days_left(site.folder) < RENEW_CERTIFICATE_DAYS:
        certificates.issue(site.folder, [config.name, "localhost", "127.0.0.1"])
        log.info("certificate-renewed", days=certificates.days_left(site.folder))
    loop = ControlLoop(site, engine, new_id(f"{socket.gethostname()}-{os.getpid()}"))
    loop.start()
    vcenters = Vcenters(site, engine)
    runs = RunEngine(Ground(site, engine, loop, vcenters))
    vcenters.start()
    runs.start()
    driving = Driving(runs)
    vcenters.on_change = driving.wake
    driving.start()
    stopping = threading.Event()
    standing = service_standing()
    housekeeping = threading.Thread(target=_keep_house, args=(loop, stopping), name="housekeeping", daemon=True)
    housekeeping.start()
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(site, engine, loop, runs),
            host=config.listen,
            port=config.api_port,
            ssl_certfile=str(site.folder / "tls.pem") if config.tls else None,
            ssl_keyfile=str(site.folder / "tls.key") if config.tls else None,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=LONGEST_HEAD,
        )
    )
    threading.Thread(target=_say_when_up, args=(server, standing, stopping), name="standing", daemon=True).start()
    # uvicorn raises the signal that stopped it once more when it is done; there is work to finish after it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    log.info("serving", api=config.api_url, control=config.control_endpoint)
    try:
        server.run()
    finally:
        stopping.set()
        standing.say(AWAY, "it was stopped")
        driving.stop()
        idle = runs.stop()
        vcenters.stop()
        loop.stop()
        engine.dispose()
    if not idle:
        log.info("runs-left", why="a step is still at work; the next start resumes it")
    sys.stderr.flush()
    # Threads of workflows that wait for their turn would keep the interpreter; DBOS resumes them all the same.
    os._exit(0 if server.started else 1)


def _say_when_up(server: uvicorn.Server, standing: Standing, stopping: threading.Event) -> None:
    """Whoever installed the service waits for this."""
    while not server.started:
        if stopping.wait(UP_LOOK_S):
            return
    standing.say(CONNECTED)


def _keep_house(loop: ControlLoop, stopping: threading.Event) -> None:
    while not stopping.wait(HOUSEKEEPING_S):
        if loop.leading:
            try:
                gone = forget_old(loop.engine)
            except DatabaseGoneError as away:
                log.warning("housekeeping-put-off", why=str(away))
            else:
                log.info("housekeeping", rows=gone)
