"""Processes killed with SIGKILL: the appliance at any moment, one of two on a PostgreSQL, a daemon, a client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service_site import ServiceSite
from sqlalchemy import func, select

from appliance.state.database import reading
from appliance.state.models import Gpu, Lease, LeaseState, Server, Slice, SliceState
from clientagent.control import ClientControl
from gpuserver.protocol.control import messages


def eventually(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceSite]:
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/appliance.db"
    else:
        url = request.getfixturevalue("postgres").empty_database()
    site = ServiceSite(tmp_path / "site", url)
    yield site
    site.close()


def happened(site: ServiceSite, daemon: str) -> list[str]:
    """What the daemon did, oldest first: `begin lease-…`, `end lease-…`."""
    lines = (site.output / f"{daemon}.log").read_text().splitlines()
    return [line for line in lines if line.startswith(("begin ", "end "))]


def books_are_right(site: ServiceSite) -> bool:
    with reading(site.engine) as session:
        live = dict(
            session.execute(
                select(Slice.gpu_id, func.sum(Slice.memory_mib))
                .where(Slice.state != SliceState.FREED)
                .group_by(Slice.gpu_id)
            ).all()
        )
        rows = session.scalars(select(Gpu)).all()
        return all(gpu.reserved_mib == live.get(gpu.id, 0) <= gpu.memory_mib for gpu in rows)


@pytest.mark.parametrize("site", ["sqlite", "postgresql"], indirect=True)
def test_the_appliance_is_killed_again_and_again(site: ServiceSite) -> None:
    """Clients keep asking while the appliance dies three times: nothing is lost, doubled or noticed by what runs."""
    site.serve()
    site.await_up()
    for i in range(2):
        site.daemon(f"s{i}", 2)
    with reading(site.engine) as session:
        eventually(lambda: session.execute(select(func.count(Gpu.id))).scalar_one() == 4)
    identities = [site.enrol("client", f"c{i}") for i in range(3)]
    stop = threading.Event()
    granted: list[str] = []
    doubled: list[str] = []
    failures: list[BaseException] = []
    with ClientControl(site.enrol("client", "steady")) as steady:
        steady.await_appliance(30)
        kept = steady.acquire(messages.RequestLease("kept", 1, steady.instance, memory_mib=6000, timeout_s=60.0))

        def busy(number: int) -> None:
            try:
                with ClientControl(identities[number]) as control:
                    control.await_appliance(60)
                    turn = 0
                    while not stop.is_set():
                        turn += 1
                        name = f"{number}-{turn}"
                        wanted = messages.RequestLease(
                            name, 1 + turn % 2, control.instance, memory_mib=5000, timeout_s=120.0
                        )
                        lease = control.acquire(wanted)
                        if lease.lease in granted:
                            doubled.append(lease.lease)
                        granted.append(lease.lease)
                        control.release(lease.lease)
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=busy, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for round_ in range(3):
            before = len(granted)
            eventually(lambda before=before: len(granted) > before + 3 or bool(failures))
            time.sleep(0.05 * round_)
            site.kill("appliance")
            assert books_are_right(site)
            site.serve()
        before = len(granted)
        eventually(lambda: len(granted) > before + 3 or bool(failures))
        stop.set()
        for thread in threads:
            thread.join(120)
        assert failures == []
        assert doubled == []
        assert steady.events.empty(), "a lease that was held all the time was taken away"
        with reading(site.engine) as session:
            row = session.get_one(Lease, kept.lease)
            assert row.state == LeaseState.ACTIVE
        done = [line for name in ("s0", "s1") for line in happened(site, name)]
        assert done.count(f"begin {kept.lease}") == 1
        assert f"end {kept.lease}" not in done
        with reading(site.engine) as session:
            rows = session.execute(select(Lease.client_id, Lease.request)).all()
        assert len(rows) == len(set(rows))

        def only_the_kept_is_left() -> bool:
            with reading(site.engine) as session:
                live = session.scalars(select(Lease.id).where(Lease.state != LeaseState.ENDED)).all()
                reserved = session.execute(select(func.sum(Gpu.reserved_mib))).scalar_one()
            return list(live) == [kept.lease] and reserved == 6000

        eventually(only_the_kept_is_left)
        assert books_are_right(site)


@pytest.mark.parametrize("site", ["postgresql"], indirect=True)
def test_a_second_process_takes_over(site: ServiceSite, tmp_path: Path) -> None:
    """Two appliance processes on one PostgreSQL: one decides; when it is killed, the other does."""
    other = ServiceSite.beside(site, tmp_path / "second")
    site.serve()
    site.await_up()
    other.serve("second")
    try:
        with other.api as api, site.api as first:
            eventually(other.answers)
            assert (api.get("/v1/appliance").json()["deciding"], first.get("/v1/appliance").json()["deciding"]) == (
                False,
                True,
            )
            eventually(lambda: len(first.get("/v1/appliance").json()["instances"]) == 2)
            site.daemon("s0", 1)
            eventually(lambda: first.get("/v1/servers").json()["items"][0]["connected"])
            eventually(lambda: api.get("/v1/servers").json()["items"][0]["connected"], 30)
            client = site.enrol("client", "ada").id
            body = {"client": client, "memory_mib": 16384}
            held = api.post("/v1/leases", json=body, params={"wait_s": 20}).json()
            assert held["state"] == "active", "asked of the process that does not decide"
            waiting = api.post("/v1/leases", json=body, params={"wait_s": 0}).json()
            site.kill("appliance")
            eventually(lambda: api.get("/v1/appliance").json()["deciding"], 40)
            assert api.get(f"/v1/leases/{held['id']}").json()["state"] == "active"
            assert happened(site, "s0") == [f"begin {held['id']}"]
            assert api.delete(f"/v1/leases/{held['id']}", headers={"If-Match": "*"}).status_code == 202
            eventually(lambda: api.get(f"/v1/leases/{waiting['id']}").json()["state"] == "active", 30)
            assert api.get("/v1/appliance").json()["epoch"] == 2
    finally:
        other.close()


def test_a_daemon_that_is_killed_comes_back_empty_and_gets_its_leases_again(site: ServiceSite) -> None:
    """Killed and restarted within the time that a server may be silent: the lease is prepared anew under its fence."""
    site.serve()
    site.await_up()
    site.daemon("s0", 1)
    with reading(site.engine) as session:
        eventually(lambda: session.execute(select(func.count(Gpu.id))).scalar_one() == 1)
    with site.api as api:
        client = site.enrol("client", "ada").id
        lease = api.post("/v1/leases", json={"client": client, "memory_mib": 100}, params={"wait_s": 20}).json()
        settings = api.get("/v1/settings")
        api.patch("/v1/settings", json={"lost_after_s": 60}, headers={"If-Match": settings.headers["ETag"]})
        site.kill("s0")
        site.daemon("s0", 1)
        eventually(lambda: happened(site, "s0") == [f"begin {lease['id']}"] * 2)
        assert api.get(f"/v1/leases/{lease['id']}").json()["state"] == "active"
        api.patch("/v1/settings", json={"lost_after_s": 1}, headers={"If-Match": "*"})
        site.kill("s0")
        eventually(lambda: api.get(f"/v1/leases/{lease['id']}").json()["state"] == "ended")
        assert "silent" in api.get(f"/v1/leases/{lease['id']}").json()["reason"]
        with reading(site.engine) as session:
            assert session.execute(select(Server.state)).scalar_one() == "active"
            assert session.execute(select(func.sum(Gpu.reserved_mib))).scalar_one() == 0
