"""Start a simulated vCenter, run both playbooks on it, print what each module said. Exit status 1 when one failed."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

from vcenter.simulator import start

PLAYBOOKS = ("list.yml", "change.yml")


def run(ansible_playbook: str) -> int:
    here = Path(__file__).parent
    failed = 0
    with start(pace=0.05) as simulation:
        where = {"host": simulation.host, "port": simulation.port, "user": simulation.user}
        variables = {"vcenter": {**where, "password": simulation.password}}
        environment = {
            **os.environ,
            "REQUESTS_CA_BUNDLE": str(simulation.certificate_file),
            "ANSIBLE_STDOUT_CALLBACK": "json",
            "ANSIBLE_LOCALHOST_WARNING": "false",
        }
        for name in PLAYBOOKS:
            command = [ansible_playbook, "-e", json.dumps(variables), str(here / name)]
            result = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
            plays = json.loads(result.stdout[result.stdout.index("{") :])["plays"]
            for task in plays[0]["tasks"]:
                said = task["hosts"]["localhost"]
                state = "failed" if said.get("failed") else "changed" if said.get("changed") else "ok"
                failed += state == "failed"
                print(f"{state:8} {task['task']['name']} {said.get('msg', '') if state == 'failed' else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ansible-playbook", default="ansible-playbook")
    raise SystemExit(run(parser.parse_args().ansible_playbook))
