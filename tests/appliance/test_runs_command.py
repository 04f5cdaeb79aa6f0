"""`gpuferry runs` against a running appliance: what it prints and how it exits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from provisioning_site import provisioning_site

HOST = "esx-02.example.test"


def test_start_show_list_and_exit_statuses(tmp_path: Path, new_database: Callable[[str], str]) -> None:
    with provisioning_site(tmp_path, new_database("sqlite")) as site:
        where = ("--url", site.site.config.api_url, "--token", site.admin_token, "--ca", str(site.folder / "ca.pem"))

        def runs(*arguments: str, status: int = 0) -> Any:
            done = site.gpuferry("runs", *arguments, *where, check=False)
            assert done.returncode == status, (arguments, done.stdout, done.stderr)
            return json.loads(done.stdout) if "--json" in arguments else done.stdout + done.stderr

        wanted = ("vcenter=lab", f"host={HOST}")
        dry = runs("start", "passthrough", *wanted, "--dry-run", "--json")
        assert [step["state"] for step in dry["steps"]] == ["skipped", "pending"]
        run = runs("start", "passthrough", *wanted, "--json")
        assert (run["state"], run["subject"]) == ("succeeded", HOST)
        assert "succeeded" in runs("show", run["id"])
        assert [each["id"] for each in runs("list", "--json")] == [run["id"]]
        assert runs("roll-back", run["id"], "--json")["state"] == "rolled-back"
        failed = runs("start", "passthrough", "vcenter=lab", "host=esx-99", "--json", status=1)
        assert failed["state"] == "failed"
        assert "esx-99" in runs("watch", failed["id"], status=1)
        assert "there is no kind" in runs("start", "paint", status=1)
        assert "NAME=VALUE" in runs("start", "passthrough", "lab", status=1)
        assert runs("host-keys", "--json") == []
        assert site.gpuferry("runs", "list", "--url", "", "--token", "", check=False).returncode == 1
