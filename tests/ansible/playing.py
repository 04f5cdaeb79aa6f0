"""Real ansible-playbook, ansible-inventory and ansible-doc over the collection as it is built and installed.

GPUFERRY_ANSIBLE names the folder of another ansible-core's programs; without it, those beside this Python are used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from service_site import ServiceSite

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
COLLECTION = ROOT / "ansible"
PROGRAMS = Path(os.environ.get("GPUFERRY_ANSIBLE", Path(sys.executable).parent))


def environment_of(site: ServiceSite) -> dict[str, str]:
    """The variables by which the collection's modules reach an appliance."""
    return {
        "GPUFERRY_URL": site.site.config.api_url,
        "GPUFERRY_TOKEN": site.admin_token,
        "GPUFERRY_CA_PATH": str(site.folder / "ca.pem"),
    }


@dataclass(frozen=True)
class Task:
    """One task's result on one host."""

    name: str
    host: str
    outcome: str
    result: dict[str, Any]

    @property
    def changed(self) -> bool:
        return bool(self.result.get("changed"))

    @property
    def diff(self) -> Any:
        return self.result.get("diff")


@dataclass(frozen=True)
class Played:
    """What a playbook did."""

    status: int
    output: str
    tasks: list[Task] = field(repr=False)

    @property
    def changed(self) -> list[str]:
        return [each.name for each in self.tasks if each.changed]

    def __getitem__(self, name: str) -> dict[str, Any]:
        (task,) = [each for each in self.tasks if each.name == name or each.name.endswith(" : " + name)]
        assert task.outcome == "ok", task.result
        return task.result

    def refusal(self, name: str) -> str:
        """The message of a task that failed."""
        (task,) = [each for each in self.tasks if each.name == name]
        assert task.outcome == "failed", task.result
        return str(task.result["msg"])

    def settled(self, name: str) -> dict[str, Any]:
        """The result of `Script.settled`: the prediction is what happened, and it happened once."""
        foreseen = self[f"{name} (foreseen)"]
        assert (foreseen["changed"], foreseen["diff"]) == (self[name]["changed"], self[name]["diff"])
        after = self[f"{name} (again)"]
        assert not after["changed"], after["diff"]
        return self[name]


class Control:
    """A control node: a folder, the collections in it, and the environment of the appliance it talks to."""

    def __init__(self, folder: Path, collections: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "GPUFERRY_"))},
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "recorder",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_RETRY_FILES_ENABLED": "0",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
            **environment,
        }

    def run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(PROGRAMS / program), *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def play(self, what: str, *arguments: str, inventory: str = "localhost,", ok: bool = True) -> Played:
        """Run a playbook: a file's name, or a playbook's of the collection."""
        record = self.folder / "record.jsonl"
        record.unlink(missing_ok=True)
        self.environment["RECORDER_FILE"] = str(record)
        done = self.run("ansible-playbook", "-i", inventory, what, *arguments, check=False)
        lines = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
        tasks = [Task(each["task"], each["host"], each["outcome"], each["result"]) for each in lines]
        played = Played(done.returncode, done.stdout + done.stderr, tasks)
        assert (played.status == 0) is ok, played.output
        return played

    def script(self) -> Script:
        return Script(self)


class Script:
    """Tasks for localhost that are played in one go, because starting ansible-playbook takes its time."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.tasks: list[dict[str, Any]] = []

    def task(self, name: str, module: str, /, **options: Any) -> Script:
        self.tasks.append({"name": name, f"gpuferry.pool.{module}": options})
        return self

    def raw(self, task: dict[str, Any]) -> Script:
        self.tasks.append(task)
        return self

    def foreseen(self, name: str, module: str, /, **options: Any) -> Script:
        """In check mode."""
        self.task(name, module, **options).tasks[-1]["check_mode"] = True
        return self

    def refused(self, name: str, module: str, /, check: bool = False, **options: Any) -> Script:
        """It is to fail."""
        task = self.task(name, module, **options).tasks[-1]
        task.update(ignore_errors=True, check_mode=check)
        return self

    def settled(self, name: str, module: str, /, **options: Any) -> Script:
        """In check mode, then the real thing, twice. `Played.settled` looks at them."""
        self.foreseen(f"{name} (foreseen)", module, **options)
        return self.task(name, module, **options).task(f"{name} (again)", module, **options)

    def play(self, ok: bool = True) -> Played:
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": self.tasks}
        (self.control.folder / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False))
        return self.control.play("play.yml", "--diff", ok=ok)
