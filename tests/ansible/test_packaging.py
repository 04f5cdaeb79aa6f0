"""The collection as it is built: what is in the tarball, its documentation, ansible-lint, and ansible-test's checks."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml
from playing import COLLECTION, Control

# Those of `ansible-test sanity` that need no packages of their own; tests/long/ansible/sanity.sh has all of them.
LIGHT = (
    "compile",
    "empty-init",
    "ignores",
    "line-endings",
    "no-assert",
    "no-get-exception",
    "no-illegal-filenames",
    "no-smart-quotes",
    "replace-urlopen",
    "shebang",
    "symlinks",
    "use-argspec-type-path",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources where ansible-test and ansible-lint want them: ansible_collections/NAMESPACE/NAME."""
    folder = tmp_path_factory.mktemp("tree")
    shutil.copytree(COLLECTION, folder / "ansible_collections/gpuferry/pool", ignore=shutil.ignore_patterns(".ansible"))
    return folder


def control_in(tree: Path) -> Control:
    home = tree / "home"
    home.mkdir(exist_ok=True)
    control = Control(tree / "ansible_collections/gpuferry/pool", tree, {"HOME": str(home)})
    control.environment.update(ANSIBLE_HOME=str(home / "ansible"), ANSIBLE_LOCAL_TEMP=str(home / "tmp"))
    return control


def test_tarball(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
    modules = {Path(name).stem for name in names if name.startswith("plugins/modules/")}
    runtime = yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text())
    # These two do not talk to an appliance.
    talking = modules - {"appliance", "installer"}
    assert set(runtime["action_groups"]["pool"]) == talking, "module_defaults reach every module"
    assert {f"roles/{name}/tasks/main.yml" for name in ("appliance", "client", "gpu_server")} <= set(names)
    assert "plugins/inventory/pool.py" in names
    assert not [name for name in names if name.startswith(("tests/", ".ansible/")) or "__pycache__" in name]


def test_every_module_is_documented_with_examples(control: Control) -> None:
    listed = json.loads(control.run("ansible-doc", "-t", "module", "--list", "gpuferry.pool", "--json").stdout)
    told = json.loads(control.run("ansible-doc", "-t", "module", "--json", *listed).stdout)
    assert len(told) >= 15
    for name, module in told.items():
        assert "error" not in module, (name, module)
        assert yaml.safe_load(module["examples"]), name
        assert f"{name}:" in module["examples"]
        assert module["return"], name


def test_ansible_lint(tree: Path) -> None:
    control = control_in(tree)
    linted = control.run("ansible-lint", "--offline", "--profile", "production", "--strict", check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_ansible_test_sanity(tree: Path) -> None:
    control = control_in(tree)
    wanted = [part for each in LIGHT for part in ("--test", each)]
    shown = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = control.run("python", "-c", shown).stdout.strip()
    checked = control.run("ansible-test", "sanity", "--local", "--python", version, *wanted, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert all(f'Running sanity test "{each}"' in checked.stdout + checked.stderr for each in LIGHT)
