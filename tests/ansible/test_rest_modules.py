"""Groups, tokens, settings, vCenters, clients, leases: each predicted, made, made again, changed and removed."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from playing import Control
from service_site import ServiceSite

from appliance.settings import Settings


@pytest.fixture(scope="module")
def server(site: ServiceSite) -> str:
    """A GPU server with two GPUs, connected."""
    site.daemon("s0", 2)
    end = time.monotonic() + 60
    with site.api as api:
        while [each["connected"] for each in api.get("/v1/servers").json()["items"]] != [True]:
            assert time.monotonic() < end
            time.sleep(0.05)
    return "s0"


def test_groups_and_clients(control: Control, site: ServiceSite) -> None:
    site.enrol("client", "ada")
    script = control.script()
    script.settled("make", "group", name="research", max_gpus=8, weight=2)
    script.settled("change", "group", name="research", max_gpus=-1, max_lease_s=3600)
    script.refused("unknown client", "client", name="grace", max_gpus=2)
    script.refused("unknown group", "client", name="ada", group="nowhere")
    script.settled("quota", "client", name="ada", group="research", max_gpus=2, priority=5)
    script.settled("no quota", "client", name="ada", max_gpus=-1)
    script.refused("must stay, foreseen", "group", check=True, name="research", state="absent")
    script.refused("must stay", "group", name="research", state="absent")
    script.settled("revoke", "client", name="ada", state="absent")
    script.task("another", "group", name="short-lived").settled("remove", "group", name="short-lived", state="absent")
    played = script.play()

    made = played.settled("make")
    assert (made["changed"], made["diff"]["after"]["max_gpus"], made["group"]["weight"]) == (True, 8, 2.0)
    changed = played.settled("change")
    assert (changed["diff"]["before"]["max_gpus"], changed["diff"]["after"]["max_gpus"]) == (8, None)
    assert changed["group"]["weight"] == 2.0, "what is not named stays"
    assert played.refusal("unknown client").startswith(
        "client grace: no such client is enrolled. Give `vcenter` and `vm`, or `address`"
    )
    assert played.refusal("unknown group") == (
        "client ada: there is no group 'nowhere' (there are: default, research). Make it with gpuferry.pool.group."
    )
    assert played.settled("quota")["diff"]["before"] == {"group": "default", "max_gpus": None, "priority": 0}
    assert played.settled("no quota")["client"]["max_gpus"] is None
    for name in ("must stay", "must stay, foreseen"):
        assert "group research: it still has clients (ada): move them first" in played.refusal(name).replace(
            "research still", "it still"
        )
    assert played.settled("revoke")["changed"]
    assert played.settled("remove")["diff"]["after"] == {}


def test_vcenter(control: Control) -> None:
    told = {"name": "lab", "address": "127.0.0.1:1", "username": "u@vsphere.local"}
    script = control.script()
    script.refused("incomplete", "vcenter", **told)
    script.settled("add", "vcenter", **told, password="hush-hush-1")
    script.task("password", "vcenter", **told, password="hush-hush-2", update_password="always")
    script.settled("pin", "vcenter", name="lab", fingerprint=":".join(["ab"] * 32))
    script.settled("remove", "vcenter", name="lab", state="absent")
    played = script.play()

    assert played.refusal("incomplete") == "vCenter lab: the appliance does not know it yet: give password."
    assert played.settled("add")["diff"]["after"]["address"] == "127.0.0.1:1"
    assert played["password"]["changed"]
    assert "hush-hush" not in played.output + str(played.tasks)
    assert played.settled("pin")["vcenter"]["fingerprint"] == ":".join(["AB"] * 32)
    assert played.settled("remove")["changed"]


def test_tokens(control: Control, site: ServiceSite) -> None:
    site.enrol("client", "holder-of-tokens")
    script = control.script()
    script.foreseen("foreseen", "token", name="grafana", scope="read").task(
        "make", "token", name="grafana", scope="read"
    )
    script.task("again", "token", name="grafana", scope="read")
    script.task("other scope", "token", name="grafana", scope="operator")
    script.settled("short", "token", name="own", scope="read", valid_s=3600)
    script.task("renew", "token", name="own", scope="read", valid_s=3600, renew_before_s=7200)
    script.refused("nobody's", "token", name="x", scope="client", client="nobody")
    script.settled("own client's", "token", name="y", scope="client", client="holder-of-tokens")
    script.foreseen("no ticket", "token", name="ws-17", enrol="client").task(
        "ticket", "token", name="ws-17", enrol="client"
    )
    script.task("before", "token", name="gone", scope="read").settled("revoke", "token", name="gone", state="absent")
    played = script.play()

    foreseen, made = played["foreseen"], played["make"]
    assert (foreseen["changed"], foreseen["diff"]) == (made["changed"], made["diff"])
    assert (played["again"]["changed"], "token" in played["again"]) == (False, False)
    assert played["other scope"]["changed"]
    with site.client(made["token"]) as api:
        assert api.get("/v1/servers").status_code == 401, "the one of the other scope was revoked"
    with site.client(played["other scope"]["token"]) as api:
        assert api.get("/v1/servers").status_code == 200
    assert played.settled("short")["changed"]
    assert played["renew"]["changed"]
    assert re.search("token x: there is no client 'nobody'. There are: .*holder-of-tokens", played.refusal("nobody's"))
    assert played.settled("own client's")["about"]["scope"] == "client"
    assert (played["no ticket"]["ticket"], len(played["ticket"]["ticket"]) > 40) == ("", True)
    assert played.settled("revoke")["changed"]


def test_settings(control: Control) -> None:
    script = control.script()
    script.settled("change", "settings", idle_after_s=1800, prefer="packed")
    script.settled("seal", "settings", ssh_user="root", ssh_password="hush-hush-3")
    script.task("seal anew", "settings", ssh_password="hush-hush-4", update_secrets="always")
    script.settled("back", "settings", defaults=["idle_after_s", "prefer"])
    script.refused("out of range", "settings", retention_days=0)
    script.refused("unknown", "settings", defaults=["colour"])
    played = script.play()

    changed = played.settled("change")
    assert changed["diff"]["before"] == {"idle_after_s": 0.0, "prefer": "close"}
    assert changed["settings"]["idle_after_s"] == 1800.0
    assert played.settled("seal")["diff"]["after"] == {"ssh_password": "written now", "ssh_user": "root"}
    assert played["seal anew"]["changed"]
    assert "hush-hush" not in played.output + str(played.tasks)
    assert played.settled("back")["diff"]["after"] == {"idle_after_s": 0.0, "prefer": "close"}
    assert played.refusal("out of range").startswith("settings: retention_days: ")
    assert re.search("^settings: this appliance has no colour. It has: .*heartbeat_s", played.refusal("unknown"))


def test_settings_module_has_every_setting(control: Control) -> None:
    told = json.loads(control.run("ansible-doc", "-t", "module", "gpuferry.pool.settings", "--json").stdout)
    assert set(Settings.model_fields) <= set(told["gpuferry.pool.settings"]["doc"]["options"])


def test_leases_and_maintenance(control: Control, site: ServiceSite, server: str) -> None:
    site.enrol("client", "holder")
    wanted = {"client": "holder", "name": "nightly", "gpus": 2, "memory_mib": 1000}
    script = control.script()
    script.settled("ask", "lease", **wanted).task("with access", "lease", **wanted, access=True)
    script.refused("another shape", "lease", **{**wanted, "gpus": 1})
    script.settled("give back", "lease", client="holder", name="nightly", state="absent")
    script.settled("ask anew", "lease", **wanted)
    script.refused("never fits", "lease", client="holder", name="huge", gpus=9)
    script.settled("drain", "gpu_server", name=server, service="maintenance", deadline_s=0)
    script.task("ended with it", "pool_info", gather=["leases"])
    script.settled("back", "gpu_server", name=server, service="active")
    script.refused("no such server", "gpu_server", name="nobody", service="active")
    played = script.play()

    made = played.settled("ask")
    assert (made["lease"]["state"], [each["memory_mib"] for each in made["slices"]]) == ("active", [1000, 1000])
    assert "access" not in made
    assert [each["address"] for each in played["with access"]["access"]] == ["s0:4751"]
    assert re.search(
        "^lease nightly of holder: .* gpus is 2, not 1. Give it back first", played.refusal("another shape")
    )
    assert played.settled("give back")["lease"]["state"] == "ended"
    assert played.settled("ask anew")["changed"], "the same name can be used again"
    assert re.search("^lease huge of holder: it was not granted: .*nearest that would: ", played.refusal("never fits"))
    assert played.settled("drain")["diff"]["after"] == {"state": "maintenance"}
    assert played["ended with it"]["leases"] == []
    assert played.settled("back")["server"]["state"] == "active"
    assert played.refusal("no such server").startswith(
        "GPU server nobody: there is no such server. Give `vcenter`, `host`"
    )


def test_pool_info_and_what_a_wrong_connection_is_told(control: Control, site: ServiceSite, server: str) -> None:
    everything = ["appliance", "servers", "gpus", "clients", "groups", "leases", "health", "settings"]
    script = control.script()
    script.task("all", "pool_info", gather=everything).refused("no server", "pool_info", server="s9")
    script.refused("wrong token", "pool_info", appliance_token="gft_wrong")
    script.refused("wrong authority", "pool_info", appliance_ca_path="/etc/ssl/certs/ca-certificates.crt")
    defaults = {"group/gpuferry.pool.pool": {"appliance_url": "https://127.0.0.1:1"}}
    script.raw(
        {"name": "nobody there", "gpuferry.pool.pool_info": {}, "module_defaults": defaults, "ignore_errors": True}
    )
    script.task("reader", "token", name="reader", scope="read").tasks[-1]["register"] = "reader"
    script.refused("read only", "group", name="x", appliance_token="{{ reader.token }}")
    played = script.play()

    told = played["all"]
    assert [(each["server"], each["name"]) for each in told["gpus"]] == [(server, "Software A100")] * 2
    assert told["appliance"]["gpus"] == 2
    assert told["settings"]["heartbeat_s"] == 0.2
    assert played.refusal("no server") == "the pool: there is no server 's9'. There are: s0."
    assert played.refusal("wrong token") == (
        "the pool: this token is not known here: make one with `gpuferry appliance token`. Give `appliance_token` "
        "(or GPUFERRY_TOKEN) a valid token: `gpuferry appliance token --scope operator`."
    )
    assert "Give `appliance_ca_path` the site's certificate authority" in played.refusal("wrong authority")
    assert "The appliance at https://127.0.0.1:1 does not answer" in played.refusal("nobody there"), "module_defaults"
    assert "group x: the token 'reader' has scope read; this needs operator." in played.refusal("read only")


def test_a_held_lease_ends_with_the_play(control: Control, site: ServiceSite, server: str) -> None:
    site.enrol("client", "blocked")
    script = control.script()
    script.foreseen("foreseen", "hold_lease", client="blocked", name="block", memory_mib=500)
    script.task("hold", "hold_lease", client="blocked", name="block", memory_mib=500)
    script.task("again", "hold_lease", client="blocked", name="block", memory_mib=500)
    script.task("in the block", "pool_info", gather=["leases"])
    script.refused("nobody's", "hold_lease", client="nobody", name="block")
    script.refused("the end", "pool_info", server="nobody").tasks[-1].pop("ignore_errors")
    played = script.play(ok=False)

    lease = played["hold"]["lease"]
    assert (played["foreseen"]["changed"], played["hold"]["changed"], played["again"]["changed"]) == (True, True, False)
    assert [each["id"] for each in played["in the block"]["leases"] if each["client"] == "blocked"] == [lease["id"]]
    assert "lease block of nobody: there is no client 'nobody'. There are: " in played.refusal("nobody's")
    end = time.monotonic() + 60
    with site.api as api:
        while api.get(f"/v1/leases/{lease['id']}").json()["state"] != "ended":
            assert time.monotonic() < end, "nobody gave it back"
            time.sleep(0.05)


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "upgrade of nobody": ("upgrade", {"kind": "servers", "names": ["nobody"]}, r"nobody"),
    "a run that is not": ("run_info", {"ids": ["run-nothing"]}, r"run-nothing"),
    "negative quota": ("group", {"name": "g-wrong", "max_gpus": -5}, r"^group g-wrong: max_gpus"),
    "a machine of no vCenter": ("client", {"name": "c", "vcenter": "nowhere", "vm": "v"}, r"no vCenter 'nowhere'"),
    "a VM without vCenter": ("client", {"name": "c", "vm": "v"}, r"vcenter, vm"),
    "half a server": ("gpu_server", {"name": "g", "vcenter": "lab"}, r"^GPU server g: give host, source, network"),
    "passthrough nowhere": ("passthrough", {"vcenter": "nowhere", "host": "h"}, r"^passthrough of h: .*'nowhere'"),
    "a ticket taken back": ("token", {"name": "t", "enrol": "client", "state": "absent"}, r"^ticket for t: .*revoke"),
    "a token of no kind": ("token", {"name": "t"}, r"scope, enrol"),
    "a lease of nobody": ("lease", {"client": "nobody", "name": "l"}, r"^lease l of nobody: .*'nobody'"),
    "a lease of a wrong shape": ("lease", {"client": "holder", "name": "l", "fraction": 7}, r"^lease l of holder: "),
    "a held lease with a slip": (
        "hold_lease",
        {"client": "holder", "name": "l", "gpu": 1},
        r"^lease l of holder: .*gpu",
    ),
    "a server that is not": (
        "acceptance",
        {"name": "nobody"},
        r"^acceptance test of nobody: the pool has no server",
    ),
    "a test that is not": ("acceptance", {"test": "never"}, r"^acceptance test of localhost: .*when_needed, always"),
    "a bundle that is not": (
        "appliance",
        {"bundle": "/nowhere/at.all", "admin_token_path": "admin.token"},
        r"^appliance on localhost: /nowhere/at.all is no bundle: .*Make one with",
    ),
    "a token nowhere": (
        "appliance",
        {"bundle": "x", "admin_token_path": "/nowhere/admin.token"},
        r"^appliance on localhost: admin_token_path /nowhere/admin.token cannot be written: make the folder",
    ),
}


def test_used_wrongly_modules_name_the_object_and_the_remedy(control: Control, server: str) -> None:
    script = control.script()
    for name, (module, options, _) in WRONG.items():
        script.refused(name, module, **options)
    played = script.play()
    told = {name: played.refusal(name) for name in WRONG}
    assert [each for each in told.items() if not re.search(WRONG[each[0]][2], each[1])] == []
