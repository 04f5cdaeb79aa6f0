"""How long the appliance takes to decide over leases, with a large pool, over the real bus and the real database.

    python benchmarks/lease_decisions.py --servers 1000 --gpus 8 --leases 20000 --rate 200 --seconds 30
    python benchmarks/lease_decisions.py --database postgresql://postgres@/bench?host=/run/postgresql ...

Three processes: `gpuferry appliance serve`; every GPU server as a CURVE connection of its own that reports,
heartbeats, prepares and releases at once; and clients that ask at random moments (a Poisson process, not waiting for
each other) and release a random lease for every grant, so that the pool stays as full as it was.

Reported, as JSON: `granted_ms`, from sending the request to receiving the grant, which includes the way to the daemon
and back and the second transaction; and from the appliance's own histogram, `decided`, the part of requests that were
placed and committed within a time after their arrival. The database is filled directly; placement is the appliance's.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import os
import random
import re
import resource
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import zmq
from sqlalchemy import insert, update

from appliance.api.security import Scope, issue
from appliance.certificates import issue as issue_certificate
from appliance.certificates import make_authority
from appliance.placement import Shape, place
from appliance.pool import Gpu, Pool, Server
from appliance.site import Site, SiteConfig, make_site
from appliance.state import models
from appliance.state.database import migrate, open_database, writing
from gpuserver.protocol.control import messages
from gpuserver.protocol.control.codec import decode, encode
from gpuserver.protocol.control.curve import new_keys, open_dealer

CLIENTS = 40
MEMORY_MIB = 81920
SIZES = (1024, 2048, 4096, 8192, 16384, 24576)
CHUNK = 2000

Peer = tuple[str, str, str]
"""(id, public key, secret key)"""
Held = list[tuple[str, int]]
"""(lease, fence) of one server."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def make_pool(args: argparse.Namespace) -> Pool:
    pool = Pool()
    for i in range(args.servers):
        server = pool.add_server(Server(f"server-{i:05}", f"gpu{i:05}", f"gpu{i:05}:4751", open=True))
        for j in range(args.gpus):
            pool.add_gpu(Gpu(f"GPU-{i:05}-{j}", server, j, "Simulated A100", MEMORY_MIB, MEMORY_MIB))
    return pool


def fill(
    site: Site, pool: Pool, args: argparse.Namespace
) -> tuple[list[Peer], list[Peer], dict[str, list[str]], dict[str, Held]]:
    """Servers, GPUs, clients and live leases. Returns the peers, each client's leases, and what each server holds."""
    chance = random.Random(1)
    servers = [(id_, *new_keys()) for id_ in pool.servers]
    clients = [(f"client-{i:03}", *new_keys()) for i in range(CLIENTS)]
    at = models.now()
    leases: list[dict[str, Any]] = []
    slices: list[dict[str, Any]] = []
    owned: dict[str, list[str]] = {client[0]: [] for client in clients}
    held: dict[str, Held] = {server[0]: [] for server in servers}
    for number in range(1, args.leases + 1):
        shape = Shape(1, chance.choice(SIZES))
        shares = place(pool, shape)
        if shares is None:
            raise SystemExit(f"the pool is full after {number - 1} leases: ask for fewer")
        pool.take(shares)
        id_, client = f"lease-{number:08}", chance.choice(clients)[0]
        owned[client].append(id_)
        leases.append(
            {
                "id": id_, "client_id": client, "request": id_, "state": "active", "gpus": 1,
                "memory_mib": shape.memory_mib, "filters": [], "priority": 0, "keeper": "", "program": "", "trace": "",
                "fence": number, "reason": "", "position": 0, "release_requested": False, "queued_at": at,
                "granted_at": at, "revision": 1,
            }
        )  # fmt: skip
        for share in shares:
            server = pool.gpus[share.gpu].server.id
            held[server].append((id_, number))
            slices.append(
                {
                    "id": f"{id_}-0", "lease_id": id_, "gpu_id": share.gpu, "server_id": server, "ordinal": 0,
                    "memory_mib": share.memory_mib, "compute": 0, "state": "prepared", "fence": number,
                }
            )  # fmt: skip
    engine = open_database(site.config.database)
    with writing(engine) as session:
        connection = session.connection()
        connection.execute(insert(models.Group), [{"id": "group-default", "name": "default"}])
        connection.execute(
            insert(models.Client),
            [{"id": id_, "name": id_, "group_id": "group-default", "public_key": key} for id_, key, _ in clients],
        )
        connection.execute(
            insert(models.Server), [{"id": id_, "name": id_, "public_key": key} for id_, key, _ in servers]
        )
        rows = [
            {
                "id": gpu.id, "server_id": gpu.server.id, "ordinal": gpu.ordinal, "name": gpu.name,
                "memory_mib": gpu.memory_mib, "reserved_mib": gpu.memory_mib - gpu.free_mib,
            }
            for gpu in pool.gpus.values()
        ]  # fmt: skip
        for table, content in ((models.Gpu, rows), (models.Lease, leases), (models.Slice, slices)):
            for start in range(0, len(content), CHUNK):
                connection.execute(insert(table), content[start : start + CHUNK])
        connection.execute(
            insert(models.Scheduler),
            [{"id": 1, "holder": "", "epoch": 1, "endpoint": "", "renewed_at": at, "fence": args.leases}],
        )
        connection.execute(update(models.Scheduler).values(holder=""))
    engine.dispose()
    return servers, clients, owned, held


def play_servers(
    endpoint: str, key: str, peers: list[Peer], gpus: int, talk: tuple[dict[str, Held], Connection]
) -> None:
    """Every GPU server: reports, heartbeats, and does as it is told at once."""
    held, report = talk
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, len(peers) * 2 + 100)
    # zmq's own poll asks every socket every time; with thousands of them, the kernel's epoll does not.
    ready = select.epoll()
    names: dict[Any, str] = {}
    by_file: dict[int, Any] = {}
    for id_, public, secret in peers:
        dealer = open_dealer(context, endpoint, public, secret, key)
        names[dealer] = id_
        by_file[dealer.getsockopt(zmq.FD)] = dealer
        ready.register(dealer.getsockopt(zmq.FD), select.EPOLLIN | select.EPOLLET)
    grants = {id_: dict(pairs) for id_, pairs in held.items()}
    welcomed: set[str] = set()
    timers: list[tuple[float, int, Any]] = [(time.monotonic() + i / 300, i, dealer) for i, dealer in enumerate(names)]
    interval, told = 2.0, False

    def hello(name: str) -> bytes:
        number = name.removeprefix("server-")
        records = tuple(
            messages.GpuRecord(f"GPU-{number}-{i}", i, "Simulated A100", MEMORY_MIB, 108) for i in range(gpus)
        )
        holding = tuple(messages.HeldLease(lease, fence) for lease, fence in grants[name].items())
        return encode(
            messages.Hello("server", "bench", "0.1.0", name, address=f"{name}:4751", gpus=records, held=holding)
        )

    def obey(dealer: Any) -> float:
        """Read everything and answer it; returns the interval the appliance asks for, or 0."""
        name, wanted = names[dealer], 0.0
        while True:
            try:
                content = decode(dealer.recv(zmq.NOBLOCK))
            except zmq.Again:
                return wanted
            if isinstance(content, messages.Prepare):
                grants[name][content.lease] = content.fence
                dealer.send(encode(messages.Prepared(content.lease, content.fence)))
            elif isinstance(content, messages.Release):
                grants[name].pop(content.lease, None)
                dealer.send(encode(messages.Released(content.lease, content.fence)))
            elif isinstance(content, messages.Report):
                dealer.send(hello(name))
            elif isinstance(content, messages.Welcome):
                welcomed.add(name)
                wanted = content.heartbeat_s

    heapq.heapify(timers)
    while True:
        while timers[0][0] <= (now := time.monotonic()):
            _, number, dealer = heapq.heappop(timers)
            again = interval
            try:
                if names[dealer] in welcomed:
                    dealer.send(encode(messages.Heartbeat("bench", time.time())), zmq.NOBLOCK)
                else:
                    dealer.send(hello(names[dealer]), zmq.NOBLOCK)
                    again = 5.0
            except zmq.Again:
                again = 0.2
            heapq.heappush(timers, (now + again, number, dealer))
            obey(dealer)
        for file, _ in ready.poll(max(0.0, min(timers[0][0] - now, 0.01))):
            interval = obey(by_file[file]) or interval
        if len(welcomed) == len(peers) and not told:
            told = True
            report.send("all servers are welcome")
        if told and report.poll(0):
            return


def play_clients(
    endpoint: str, key: str, peers: list[Peer], owned: dict[str, list[str]], args: argparse.Namespace
) -> dict[str, Any]:
    """Ask `rate` times a second, release as often; returns what was measured."""
    context = zmq.Context()
    poller = zmq.Poller()
    dealers = {}
    for id_, public, secret in peers:
        dealer = open_dealer(context, endpoint, public, secret, key)
        dealer.send(encode(messages.Hello("client", "bench", kept=())))
        poller.register(dealer, zmq.POLLIN)
        dealers[dealer] = id_
    sockets = list(dealers)
    chance = random.Random(2)
    sent: dict[str, float] = {}
    times: list[float] = []
    denied: list[str] = []
    queued: set[str] = set()
    begin = time.monotonic()
    warm = begin + min(5.0, args.seconds / 4)
    end = begin + args.seconds
    due, beat_at, number = begin, begin, 0
    while (now := time.monotonic()) < end or (sent and now < end + 5):
        if now >= beat_at:
            beat_at = now + 2.0
            for dealer in sockets:
                dealer.send(encode(messages.Heartbeat("bench", time.time())))
        while now >= due and now < end:
            number += 1
            due += chance.expovariate(args.rate)
            name = f"bench-{number}"
            dealer = chance.choice(sockets)
            wanted = messages.RequestLease(name, 1, "bench", memory_mib=chance.choice(SIZES))
            dealer.send(encode(wanted))
            sent[name] = time.monotonic()
        for dealer, _ in poller.poll(max(0.0, min(due - time.monotonic(), 0.005)) * 1000):
            while True:
                try:
                    content = decode(dealer.recv(zmq.NOBLOCK))
                except zmq.Again:
                    break
                came = time.monotonic()
                if isinstance(content, messages.Granted):
                    asked = sent.pop(content.request, None)
                    if asked is not None and asked >= warm and content.request not in queued:
                        times.append(came - asked)
                    mine = owned[dealers[dealer]]
                    mine.append(content.lease)
                    position = chance.randrange(len(mine))
                    mine[position], mine[-1] = mine[-1], mine[position]
                    dealer.send(encode(messages.ReleaseLease(mine.pop())))
                elif isinstance(content, messages.Denied):
                    sent.pop(content.request, None)
                    denied.append(content.reason)
                elif isinstance(content, messages.Queued):
                    queued.add(content.request)
    times.sort()
    return {
        "asked": number,
        "granted": len(times),
        "denied": len(denied),
        "queued": len(queued),
        "unanswered": len(sent),
        "granted_ms": {
            name: round(times[min(len(times) - 1, int(len(times) * part))] * 1000, 2)
            for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
        },
    }


def decided(site: Site, token: str) -> dict[str, float]:
    """The appliance's own histogram: bound in seconds → requests decided within it, since its start."""
    context = ssl.create_default_context(cafile=site.folder / "ca.pem")
    request = urllib.request.Request(f"{site.config.api_url}/metrics", headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:  # noqa: S310
        text = answer.read().decode()
    return {
        found[1]: float(found[2]) for found in re.finditer(r'gpuferry_decision_seconds_bucket\{le="(.+)"\} (.+)', text)
    }


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--leases", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--database", default="", help="default: SQLite in a temporary folder; it must be empty")
    args = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="gpuferry-bench-") as name:
        folder = Path(name)
        database = args.database or f"sqlite:///{folder}/appliance.db"
        ports = [free_port() for _ in range(3)]
        config = SiteConfig("127.0.0.1", database, *ports, listen="127.0.0.1")
        site = make_site(folder / "site", config)
        make_authority(site.folder, "bench")
        issue_certificate(site.folder, ["127.0.0.1"])
        migrate(database)
        servers, clients, owned, held = fill(site, make_pool(args), args)
        engine = open_database(database)
        _, token = issue(engine, "bench", Scope.READ)
        engine.dispose()
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        command = [sys.executable, "-m", "clientagent.command", "appliance", "serve", "--data", str(site.folder)]
        with (folder / "log").open("w") as log:
            appliance = subprocess.Popen([*command, "--log-level", "WARNING"], env=environment, stdout=log, stderr=log)
        here, there = multiprocessing.Pipe()
        arguments = (config.control_endpoint, site.curve_public, servers, args.gpus, (held, there))
        daemons = multiprocessing.Process(target=play_servers, args=arguments, daemon=True)
        daemons.start()
        try:
            started = time.monotonic()
            if not here.poll(300):
                raise SystemExit(f"the servers were not welcomed: {(folder / 'log').read_text()[-2000:]}")
            welcomed_s = time.monotonic() - started
            time.sleep(3)
            before, cpu, clock = decided(site, token), cpu_seconds(appliance.pid), time.monotonic()
            result = play_clients(config.control_endpoint, site.curve_public, clients, owned, args)
            after = decided(site, token)
            busy = (cpu_seconds(appliance.pid) - cpu) / (time.monotonic() - clock)
            total = after["+Inf"] - before["+Inf"]
            within = {
                f"<= {float(bound) * 1000:g} ms": round((after[bound] - before[bound]) / total, 4)
                for bound in after
                if bound != "+Inf"
            }
            size = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{appliance.pid}/status").read_text())[1])  # type: ignore[index]
            print(
                json.dumps(
                    {
                        "database": database.partition(":")[0],
                        "servers": args.servers,
                        "gpus": args.servers * args.gpus,
                        "leases": args.leases,
                        "rate": args.rate,
                        **result,
                        "decided": within,
                        "appliance_cpu": round(busy, 3),
                        "appliance_mib": size // 1024,
                        "start_to_all_welcome_s": round(welcomed_s, 1),
                        "load_average": os.getloadavg()[0],
                        "log": (folder / "log").read_text()[-500:],
                    },
                    indent=1,
                )
            )
            here.send("stop")
        finally:
            appliance.terminate()
            appliance.wait(30)
            daemons.kill()


if __name__ == "__main__":
    main()
