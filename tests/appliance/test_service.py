"""The running service: API, tokens, versions of rows, live events, TLS, backup, support bundle."""

from __future__ import annotations

import contextlib
import json
import ssl
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.openapi import from_url
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from service_site import ServiceSite
from sqlalchemy import select

from appliance.backup import _tables
from appliance.command import main
from appliance.service import LONGEST_HEAD
from appliance.state.database import open_database, reading, writing
from appliance.state.models import ApiToken, EnrolmentToken, Setting, VCenter, now
from gpuserver.protocol.control.curve import parse_ticket
from gpuserver.protocol.control.enrolment import enrol


def eventually(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceSite]:
    folder = tmp_path_factory.mktemp("service")
    site = ServiceSite(folder / "site", f"sqlite:///{folder}/appliance.db")
    site.serve()
    try:
        site.await_up()
        site.daemon("s0", 2)
        with site.api as api:
            eventually(lambda: [each["connected"] for each in api.get("/v1/servers").json()["items"]] == [True])
        yield site
    finally:
        site.close()


@pytest.fixture
def api(site: ServiceSite) -> Iterator[httpx.Client]:
    with site.api as api:
        yield api


def make(api: httpx.Client, path: str, **body: object) -> dict[str, object]:
    answer = api.post(path, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, object] = answer.json()
    return made


def test_a_lease_through_the_api(site: ServiceSite, api: httpx.Client) -> None:
    client = site.enrol("client", "ada").id
    wanted: dict[str, object] = {"client": client, "request": "job-7", "gpus": 2, "memory_mib": 1000}
    lease = make(api, "/v1/leases", **wanted, filters=["device.name~=a100"])
    assert lease["state"] == "active"
    assert make(api, "/v1/leases", **wanted)["id"] == lease["id"]
    (access,) = api.get(f"/v1/leases/{lease['id']}/access").json()
    assert access["address"] == "s0:4751"
    assert access["secret"] == site.site.session_secret(str(lease["id"]), access["server_id"], 1)
    shares = api.get("/v1/slices", params={"lease": lease["id"]}).json()["items"]
    assert [(each["ordinal"], each["memory_mib"], each["state"]) for each in shares] == [
        (0, 1000, "prepared"),
        (1, 1000, "prepared"),
    ]
    assert {each["reserved_mib"] for each in api.get("/v1/gpus").json()["items"]} == {1000}
    assert api.delete(f"/v1/leases/{lease['id']}", headers={"If-Match": "*"}).status_code == 202
    eventually(lambda: {each["reserved_mib"] for each in api.get("/v1/gpus").json()["items"]} == {0})
    ended = api.get(f"/v1/leases/{lease['id']}").json()
    assert (ended["state"], ended["reason"]) == ("ended", "released by first admin")
    refused = make(api, "/v1/leases", client=client, gpus=9)
    assert (refused["state"], "the nearest that would: 2 whole GPUs" in str(refused["reason"])) == ("ended", True)
    wrong = api.post("/v1/leases", json={"client": client, "filters": ["device.colour=red"]})
    assert (wrong.status_code, "no filter key" in wrong.json()["detail"]) == (422, True)


def test_one_id_from_the_request_to_the_daemon(site: ServiceSite, api: httpx.Client) -> None:
    client = site.enrol("client", "traced").id
    answer = api.post("/v1/leases", json={"client": client, "memory_mib": 1}, headers={"X-Request-Id": "build-4711"})
    assert (answer.headers["X-Request-Id"], answer.json()["trace"]) == ("build-4711", "build-4711")
    events = api.get("/v1/events", params={"subject": answer.json()["id"], "kind": "lease"}).json()["items"]
    assert [(each["kind"], each["trace"]) for each in events] == [("lease.granted", "build-4711")]
    audit = api.get("/v1/audit", params={"subject": answer.json()["id"]}).json()["items"]
    assert [(each["action"], each["trace"]) for each in audit] == [("lease requested", "build-4711")]
    assert api.delete(f"/v1/leases/{answer.json()['id']}", headers={"If-Match": "*"}).status_code == 202


def test_scopes(site: ServiceSite, api: httpx.Client) -> None:
    mine, other = site.enrol("client", "mine").id, site.enrol("client", "other").id
    tokens = {
        scope: str(make(api, "/v1/tokens", name=f"a {scope}", scope=scope)["token"]) for scope in ("read", "operator")
    }
    tokens["client"] = str(make(api, "/v1/tokens", name="mine", scope="client", client=mine)["token"])
    lease = make(api, "/v1/leases", client=other, memory_mib=1)["id"]

    def status(scope: str, method: str, path: str, **more: object) -> int:
        with site.client(tokens.get(scope)) as client:
            return client.request(method, path, **more).status_code  # type: ignore[arg-type]

    group = {"name": "research", "weight": 2}
    assert status("nobody", "GET", "/v1/servers") == 401
    assert status("read", "GET", "/v1/servers") == 200
    assert status("client", "GET", "/v1/servers") == 403
    assert status("read", "POST", "/v1/groups", json=group) == 403
    assert status("operator", "POST", "/v1/groups", json=group) == 201
    assert status("operator", "POST", "/v1/tokens", json={"name": "x", "scope": "admin"}) == 403
    assert status("operator", "GET", "/v1/audit") == 403
    assert status("read", "GET", f"/v1/leases/{lease}") == 200
    assert status("read", "GET", f"/v1/leases/{lease}/access") == 403
    assert status("client", "GET", f"/v1/leases/{lease}") == 404, "another client's lease does not exist to it"
    assert status("client", "POST", "/v1/leases", json={"client": other}) == 403
    assert status("client", "POST", "/v1/leases", json={"memory_mib": 1}) == 201
    with site.client(tokens["client"]) as client:
        assert {each["client_id"] for each in client.get("/v1/leases").json()["items"]} == {mine}
    refused = api.get("/v1/audit").json()["items"]
    assert {"POST refused"} <= {each["action"] for each in refused}


def test_tokens_end_by_revocation_and_by_time_and_are_not_kept(site: ServiceSite, api: httpx.Client) -> None:
    made = make(api, "/v1/tokens", name="short", scope="read", valid_s=3600)
    token = str(made["token"])
    with site.client(token) as client:
        assert client.get("/v1/servers").status_code == 200
        with writing(site.engine) as session:
            row = session.get_one(ApiToken, str(made["id"]))
            row.expires_at = now() - timedelta(seconds=1)
        expired = client.get("/v1/servers")
        assert (expired.status_code, "expired at" in expired.json()["detail"]) == (401, True)
        assert expired.headers["WWW-Authenticate"].startswith("Bearer")
    second = make(api, "/v1/tokens", name="second", scope="read")
    shown = api.get(f"/v1/tokens/{second['id']}")
    assert "token" not in shown.json()
    assert api.delete(f"/v1/tokens/{second['id']}").status_code == 428
    assert api.delete(f"/v1/tokens/{second['id']}", headers={"If-Match": shown.headers["ETag"]}).status_code == 204
    with site.client(str(second["token"])) as client:
        assert "was revoked at" in client.get("/v1/servers").json()["detail"]
    database = b"".join(path.read_bytes() for path in site.output.glob("appliance.db*"))
    for secret in (token, str(second["token"]), site.admin_token):
        assert secret.encode() not in database
    logs = "".join(path.read_text() for path in site.output.glob("*.log"))
    assert "gft_" not in logs


def test_writes_name_the_version_they_change(api: httpx.Client) -> None:
    made = api.post("/v1/groups", json={"name": "versioned"})
    path, first = made.headers["Location"], made.headers["ETag"]
    assert api.patch(path, json={"max_gpus": 4}).status_code == 428
    changed = api.patch(path, json={"max_gpus": 4}, headers={"If-Match": first})
    assert (changed.status_code, changed.json()["max_gpus"]) == (200, 4)
    late = api.patch(path, json={"max_gpus": 8}, headers={"If-Match": first})
    assert (late.status_code, late.headers["Content-Type"]) == (412, "application/problem+json")
    assert late.json()["title"] == "Changed meanwhile"
    assert api.get(path).json()["max_gpus"] == 4
    assert (
        api.patch(path, json={"max_gpus": None}, headers={"If-Match": changed.headers["ETag"]}).json()["max_gpus"]
        is None
    )
    assert api.post("/v1/groups", json={"name": "versioned"}).status_code == 409
    assert api.delete(path, headers={"If-Match": "*"}).status_code == 204
    assert api.get(path).status_code == 404


def test_pages_neither_repeat_nor_miss(api: httpx.Client) -> None:
    names = {f"paged {number:02}" for number in range(7)}
    for name in names:
        make(api, "/v1/groups", name=name)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = api.get(
            "/v1/groups", params={"limit": 3, "name": "paged", **({"cursor": cursor} if cursor else {})}
        ).json()
        assert len(page["items"]) <= 3
        seen += [each["name"] for each in page["items"]]
        if cursor is None:
            make(api, "/v1/groups", name="paged and late")
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen))
    assert set(seen) - {"paged and late"} == names
    assert api.get("/v1/groups", params={"cursor": "?"}).status_code == 422


def test_quota_of_a_group_counts_for_the_next_request(site: ServiceSite, api: httpx.Client) -> None:
    group = make(api, "/v1/groups", name="small", max_memory_mib=1000)
    client = site.enrol("client", "limited").id
    moved = api.patch(f"/v1/clients/{client}", json={"group_id": group["id"]}, headers={"If-Match": "*"})
    assert moved.json()["group_id"] == group["id"]
    first = make(api, "/v1/leases", client=client, memory_mib=600)
    assert first["state"] == "active"
    second = make(api, "/v1/leases", client=client, memory_mib=600)
    assert second["state"] == "queued"
    eventually(lambda: "quota of group small" in api.get(f"/v1/leases/{second['id']}").json()["reason"])
    third = make(api, "/v1/leases", client=client, memory_mib=1001)
    assert (third["state"], "quota of group small" in str(third["reason"])) == ("ended", True)
    raised = api.patch(f"/v1/groups/{group['id']}", json={"max_memory_mib": 1200}, headers={"If-Match": "*"})
    assert raised.status_code == 200
    eventually(lambda: api.get(f"/v1/leases/{second['id']}").json()["state"] == "active")
    assert api.delete(f"/v1/clients/{client}", headers={"If-Match": "*"}).status_code == 204
    eventually(lambda: api.get(f"/v1/leases/{second['id']}").json()["state"] == "ended")
    assert api.post("/v1/leases", json={"client": client, "memory_mib": 1}).status_code == 409


def test_events_come_live_and_can_be_resumed(site: ServiceSite, api: httpx.Client) -> None:
    client = site.enrol("client", "streamed").id
    got: list[dict[str, object]] = []
    ready = threading.Event()

    def follow() -> None:
        with site.api as own, own.stream("GET", "/v1/events/stream", params={"for_s": 20}) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            ready.set()
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    got.append(json.loads(line[6:]))
                    if got[-1]["kind"] == "lease.ended":
                        return

    thread = threading.Thread(target=follow)
    thread.start()
    assert ready.wait(20)
    time.sleep(1.0)
    lease = make(api, "/v1/leases", client=client, memory_mib=1)["id"]
    api.delete(f"/v1/leases/{lease}", headers={"If-Match": "*"})
    thread.join(30)
    mine = [each for each in got if each["subject"] == lease]
    assert [each["kind"] for each in mine] == ["lease.granted", "lease.ended"]
    headers = {"Last-Event-ID": str(mine[0]["id"])}
    with api.stream("GET", "/v1/events/stream", params={"for_s": 0.1}, headers=headers) as stream:
        again = [json.loads(line[6:])["id"] for line in stream.iter_lines() if line.startswith("data: ")]
    assert again[0] == mine[1]["id"]


def test_drain_upgrade_and_health_of_a_server(site: ServiceSite, api: httpx.Client) -> None:
    (server,) = [each for each in api.get("/v1/servers").json()["items"] if each["name"] == "s0"]
    path = f"/v1/servers/{server['id']}"
    tag = api.get(path).headers["ETag"]
    for lease in api.get("/v1/leases", params={"state": ["active", "granted", "queued"]}).json()["items"]:
        api.delete(f"/v1/leases/{lease['id']}", headers={"If-Match": "*"})
    drained = api.patch(path, json={"state": "draining", "drain_deadline_s": 60}, headers={"If-Match": tag})
    assert drained.status_code == 200
    eventually(lambda: api.get(path).json()["state"] == "maintenance")
    client = site.enrol("client", "patient").id
    waiting = make(api, "/v1/leases", client=client, memory_mib=1)
    assert waiting["state"] == "queued"
    assert api.patch(path, json={"state": "active"}, headers={"If-Match": "*"}).status_code == 200
    eventually(lambda: api.get(f"/v1/leases/{waiting['id']}").json()["state"] == "active")
    assert "drain True" in (site.output / "s0.log").read_text()
    assert api.post(f"{path}/upgrade", json={"version": "0.2.0"}).status_code == 202
    query = {"kind": "server.upgrade"}
    eventually(lambda: bool(api.get("/v1/events", params=query).json()["items"]))
    assert "0.2.0 will be installed" in api.get("/v1/events", params=query).json()["items"][0]["text"]
    eventually(lambda: bool(api.get("/v1/health", params={"state": "warning"}).json()["items"]))
    (hot,) = api.get("/v1/health", params={"state": "warning"}).json()["items"]
    assert (hot["check"], hot["value"], hot["threshold"]) == ("gpu.temperature", "95", "<= 88 °C")
    assert "airflow" in hot["remedy"]


def test_a_server_may_begin_in_maintenance_and_keeps_what_its_tests_came_to(
    site: ServiceSite, api: httpx.Client
) -> None:
    enrolled = []
    for begins in ("maintenance", "active"):
        made = make(api, "/v1/enrolments", role="server", name=f"begins-{begins}", begins=begins)
        id_ = enrol(parse_ticket(str(made["ticket"])), "server", f"begins-{begins}").id
        assert api.get(f"/v1/servers/{id_}").json()["state"] == begins
        enrolled.append(id_)
    path = f"/v1/servers/{enrolled[0]}/acceptance"
    good = {"ordinal": 0, "name": "NVIDIA L40S", "uuid": "1e2f", "passed": True, "copy_in_gb_s": 11.2}
    for gpus, error in (
        ([], ""),
        ([good], "1 GPUs were tested, the server has 0"),
        ([good, {**good, "ordinal": 1, "passed": False, "error": "a sum is wrong"}], ""),
    ):
        kept = make(api, path, passed=True, gpus=gpus)
        assert (kept["passed"], kept["result"]["error"]) == (False, error)  # type: ignore[index]
    assert api.get(path).json()["items"][0]["id"] == kept["id"]
    (s0,) = api.get("/v1/servers", params={"name": "s0"}).json()["items"]
    both = [good, {**good, "ordinal": 1}]
    assert make(api, f"/v1/servers/{s0['id']}/acceptance", passed=True, gpus=both)["passed"] is True
    told = api.get("/v1/events", params={"kind": "server.acceptance", "limit": 500}).json()["items"]
    assert {each["text"] for each in told} >= {"passed", "failed: GPU 1: a sum is wrong", "failed: no GPU was tested"}
    for id_ in enrolled:
        assert api.delete(f"/v1/servers/{id_}", headers={"If-Match": "*"}).status_code == 204


def test_settings_are_checked_and_taken_in(site: ServiceSite, api: httpx.Client) -> None:
    shown = api.get("/v1/settings")
    tag = shown.headers["ETag"]
    for wrong in ({"heartbeat_s": -1}, {"colour": 1}, {"prefer": "far"}):
        assert api.patch("/v1/settings", json=wrong, headers={"If-Match": tag}).status_code == 422
    changed = api.patch("/v1/settings", json={"slices_per_gpu": 1}, headers={"If-Match": tag})
    assert changed.json() == {**shown.json(), "slices_per_gpu": 1}
    assert api.patch("/v1/settings", json={"patience_s": 5}, headers={"If-Match": tag}).status_code == 412
    back = api.patch("/v1/settings", json={"slices_per_gpu": None}, headers={"If-Match": changed.headers["ETag"]})
    assert back.json() == shown.json()


def test_a_vcenters_password_goes_in_and_never_comes_out(site: ServiceSite, api: httpx.Client) -> None:
    made = make(
        api, "/v1/vcenters", name="lab", address="vc.lab", username="svc@vsphere.local", password="correct-horse"
    )
    assert "password" not in json.dumps(made)
    path = f"/v1/vcenters/{made['id']}"
    for impossible in (
        "vc lab",
        "vc.lab:99999",
        "ftp://vc.lab",
        "a:b:c",
        "https://svc@vc.lab",
        "-vc.lab",
        "vc.lab/sdk",
    ):
        wrong = api.patch(path, json={"address": impossible}, headers={"If-Match": "*"})
        assert (wrong.status_code, "address" in wrong.text) == (422, True), impossible
    for fine in ("[fd00::7]:8443", "10.1.2.3", "https://vc.lab:8443/", "vc.lab"):
        assert api.patch(path, json={"address": fine}, headers={"If-Match": "*"}).status_code == 200, fine
    api.patch(path, json={"password": "battery-staple"}, headers={"If-Match": "*"})
    with reading(site.engine) as session:
        row = session.get_one(VCenter, str(made["id"]))
        assert site.site.unseal(row.sealed_password) == "battery-staple"
        assert "battery" not in row.sealed_password
    assert "password" not in api.get(path).text


def test_tls_is_checked_against_the_sites_own_authority(site: ServiceSite) -> None:
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{site.site.config.api_url}/healthz")
    context = ssl.create_default_context(cafile=site.folder / "ca.pem")
    answer = httpx.get(f"{site.site.config.api_url}/healthz", verify=context)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "detail": ""})


def test_metrics_need_a_token_and_count(site: ServiceSite, api: httpx.Client) -> None:
    with site.client(None) as nobody:
        assert nobody.get("/metrics").status_code == 401
    eventually(lambda: 'gpuferry_gpus{state="usable"} 2.0' in api.get("/metrics").text)
    text = api.get("/metrics").text
    assert "gpuferry_leader 1.0" in text
    assert 'gpuferry_control_messages_total{kind="heartbeat"}' in text


def test_status_and_mistakes_on_the_command_line(site: ServiceSite, capsys: pytest.CaptureFixture[str]) -> None:
    told = site.gpuferry("appliance", "status", "--data", str(site.folder)).stdout
    assert "yes, epoch 1" in told
    for arguments, said in [
        (["init", "--data", str(site.folder)], "is a site already"),
        (["status", "--data", str(site.folder / "nothing")], "is not a site"),
        (["token", "--data", str(site.folder), "--enrol", "toaster"], "a server or a client"),
        (["restore", str(site.folder / "ca.pem"), "--data", str(site.output / "new")], "cannot be read as a backup"),
    ]:
        assert main(arguments) == 1
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_backup_and_restore_into_either_database(
    site: ServiceSite, api: httpx.Client, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    backup = tmp_path / "site.tar.gz"
    site.gpuferry("appliance", "backup", str(backup), "--data", str(site.folder))
    assert backup.stat().st_mode & 0o077 == 0
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/restored.db"
    else:
        url = request.getfixturevalue("postgres").empty_database()
    folder = tmp_path / "restored"
    site.gpuferry("appliance", "restore", str(backup), "--data", str(folder), "--database", url)
    for name in ("curve.json", "master.key", "ca.pem", "ca.key", "tls.pem", "tls.key"):
        assert (folder / name).read_bytes() == (site.folder / name).read_bytes()
    restored = open_database(url)
    with tarfile.open(backup) as archive:
        counts = json.loads(archive.extractfile("backup.json").read())["rows"]  # type: ignore[union-attr]
    with site.engine.connect() as before, restored.connect() as after:
        for table in _tables():
            rows = after.execute(select(table)).all()
            assert len(rows) == counts[table.name]
            if table.name in ("lease", "slice", "client", "client_group", "vcenter", "api_token"):
                assert sorted(map(str, rows)) == sorted(map(str, before.execute(select(table)).all()))
    again = site.gpuferry(
        "appliance", "restore", str(backup), "--data", str(tmp_path / "x"), "--database", url, check=False
    )
    assert (again.returncode, "restore into an empty one" in again.stderr) == (1, True)
    with writing(restored) as session:
        # Not a lease: whether there is one depends on which tests ran before.
        assert session.scalars(select(Setting)).first() is not None
    restored.dispose()


def test_the_support_bundle_holds_no_secret(site: ServiceSite, api: httpx.Client, tmp_path: Path) -> None:
    ticket = str(make(api, "/v1/enrolments", role="client", name="somebody")["ticket"])
    log = tmp_path / "leaky.log"
    log.write_text(f"token {site.admin_token} ticket {ticket} url postgresql://user:hunter2@db/site\n")
    bundle = tmp_path / "bundle.tar.gz"
    site.gpuferry("appliance", "support-bundle", str(bundle), "--data", str(site.folder), "--log", str(log))
    with tarfile.open(bundle) as archive:
        content = {each.name: archive.extractfile(each).read().decode() for each in archive}  # type: ignore[union-attr]
    text = "\n".join(content.values())
    assert {"event.jsonl", "server.jsonl", "lease.jsonl", "site.json", "logs/leaky.log"} <= set(content)
    with reading(site.engine) as session:
        secrets = [row.digest for row in session.scalars(select(ApiToken))]
        secrets += [row.digest for row in session.scalars(select(EnrolmentToken))]
        secrets += [row.sealed_password for row in session.scalars(select(VCenter))]
    keys = json.loads((site.folder / "curve.json").read_text())
    for secret in [*secrets, site.admin_token, ticket, "hunter2", keys["secret"]]:
        assert secret not in text


LONGEST_URL = LONGEST_HEAD - 4096
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def test_every_operation_keeps_its_description(site: ServiceSite) -> None:
    """schemathesis sends what the description allows and what it does not, and compares every answer with it."""
    trust = str(site.folder / "ca.pem")
    schema = from_url(f"{site.site.config.api_url}/openapi.json", verify=trust)
    session = requests.Session()
    headers = {"Authorization": f"Bearer {site.admin_token}"}
    seen: set[str] = set()
    answers: set[int] = set()
    for result in schema.exclude(path="/v1/events/stream").get_all_operations():
        operation = result.ok()
        for mode in GenerationMode:

            @settings(max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Case) -> None:
                if "wait_s" in (case.query or {}):
                    case.query["wait_s"] = 0
                response = case.call(session=session, headers=headers, verify=trust)
                if len(response.request.url or "") > LONGEST_URL:
                    # The HTTP server refuses it, no operation sees it.
                    assert (response.status_code, response.text) == (400, "Invalid HTTP request received.")
                    return
                answers.add(response.status_code)
                case.validate_response(response, checks=CHECKS)

            with contextlib.suppress(Unsatisfiable):
                check()
        seen.add(operation.label)
    assert len(seen) > 35
    assert {200, 201, 404, 412, 422, 428} - answers <= {412}


def test_the_description_is_openapi_31(site: ServiceSite, api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert {"/v1/servers", "/v1/leases/{id}", "/v1/groups", "/v1/events/stream"} <= set(document["paths"])
