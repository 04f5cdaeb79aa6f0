"""Bundles: signing and verifying, what goes in, what a machine gets of it, and wheels that would do harm."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.deploy import wheels
from appliance.deploy.building import build_bundle
from appliance.deploy.bundle import Bundle, make_installer, open_bundle, public_half, signing_key, write_bundle
from appliance.deploy.deployment import DeploySettings, needs_of
from appliance.deploy.on_target import ed25519
from appliance.deploy.on_target.manifest import BundleError, BundleFile, SignatureError, parse_manifest
from appliance.deploy.on_target.unpack import unpack_wheel
from appliance.runs.server import parts_for
from gpuserver.protocol.version import own_version

ROOT = Path(__file__).resolve().parents[3]

# RFC 8032, section 7.1, tests 1 to 3: public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_signatures_of_the_standard(key: str, message: str, signature: str) -> None:
    public, text, signed = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
    assert ed25519.verify(public, text, signed)
    assert not ed25519.verify(public, text + b"!", signed)
    # The same signature with the group's order added to its scalar must not pass for another one (section 8.4).
    scalar = int.from_bytes(signed[32:], "little") + ed25519.ORDER
    assert not ed25519.verify(public, text, signed[:32] + scalar.to_bytes(32, "little"))


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 64 * 8 - 1))
def test_signatures_agree_with_the_cryptography_package(seed: bytes, message: bytes, flipped: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = public_half(key), key.sign(message)
    assert ed25519.verify(public, message, signature)
    wrong = bytearray(signature)
    wrong[flipped // 8] ^= 1 << flipped % 8
    assert not ed25519.verify(public, message, bytes(wrong))


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
def test_nonsense_is_no_signature(key: bytes, message: bytes, signature: bytes) -> None:
    assert not ed25519.verify(key, message, signature)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return build_bundle(folder, installed=True)


def test_a_bundle_is_the_same_for_the_same_contents(bundle: Bundle, folder: Path) -> None:
    again = build_bundle(folder, folder / "again.gpuferry", installed=True)
    assert (folder / "again.gpuferry").read_bytes() == bundle.path.read_bytes()
    assert again.manifest == bundle.manifest
    assert bundle.version == own_version()


def test_a_machine_gets_what_it_needs_and_no_more(bundle: Bundle) -> None:
    python = wheels.this_python()
    client = {each.name.rpartition("/")[2].split("-")[0] for each in bundle.manifest.select("client", python)}
    server = {each.name.rpartition("/")[2].split("-")[0] for each in bundle.manifest.select("server", python)}
    assert client == {"gpuferry", "pyzmq", "installer.pyz"}
    assert {"gpuferry", "pyzmq", "nvidia_ml_py", "structlog", "typer"} <= server
    with pytest.raises(BundleError, match=r"Python 2\.7"):
        bundle.manifest.select("client", "2.7")
    with pytest.raises(BundleError, match="no part"):
        bundle.manifest.select("server", python, ["cupy"])


def test_a_server_gets_the_cupy_of_the_bundle_where_it_has_none(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    assert parts_for(bundle, []) == (), "this bundle brings none"
    wheel = tmp_path / "cupy.whl"
    wheel.write_bytes(os.urandom(8 << 20))
    python = wheels.this_python()
    cupy = BundleFile(
        "cupy/cupy.whl", hashlib.sha256(wheel.read_bytes()).hexdigest(), 8 << 20, ("server",), (python,), "cupy"
    )
    needs = {"server": bundle.manifest.roles["server"]}
    write_bundle(tmp_path / "with-cupy.gpuferry", "1.0", needs, [(cupy, wheel)], signing_key(folder))
    made = open_bundle(tmp_path / "with-cupy.gpuferry", folder)
    assert parts_for(made, ["/usr/lib/python3/dist-packages"]) == (), "the machine's image has its own"
    parts = parts_for(made, [])
    assert cupy in made.manifest.select("server", python, parts)
    assert cupy not in made.manifest.select("server", python)
    room = needs_of(made, "server", DeploySettings(parts=parts)).disk_mib
    assert room == needs_of(made, "server", DeploySettings()).disk_mib + 32


def test_the_needs_of_the_roles_are_those_of_the_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: Iterable[str]) -> set[str]:
        return {each.split(">")[0].split("[")[0] for each in requirements}

    optional = {each.split("[")[0] for each in wheels.CUPY}
    extras = project["optional-dependencies"]
    assert set(wheels.REQUIREMENTS["client"]) == names(project["dependencies"] + extras["client"])
    # An appliance makes the bundles of the others, so it has what they need.
    parts = ("vcenter", "appliance", "postgresql", "gpuserver")
    own = names(project["dependencies"]).union(*(names(extras[each]) for each in parts))
    assert names(wheels.REQUIREMENTS["appliance"]) - {"pip"} == own - optional - {"gpuferry"}
    assert set(wheels.REQUIREMENTS["server"]) == names(project["dependencies"] + extras["gpuserver"]) - optional


def test_only_the_site_key_opens_a_bundle(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    assert open_bundle(bundle.path, folder).manifest == bundle.manifest
    assert (folder / "bundle.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(SignatureError):
        open_bundle(bundle.path, tmp_path)
    assert public_half(signing_key(tmp_path)) != bundle.key


def test_a_bundle_with_a_changed_byte_never_gives_other_bytes(bundle: Bundle, tmp_path: Path) -> None:
    true = {each.name: bundle.read(each) for each in bundle.manifest.files}
    changed = tmp_path / "changed.gpuferry"
    refused = 0
    for at in range(25):
        raw = bytearray(bundle.path.read_bytes())
        raw[len(raw) * at // 25 + 11] ^= 0xFF
        changed.write_bytes(raw)
        try:
            opened = Bundle(changed, bundle.key)
            # A byte that zip files do not care about (a time) may differ; contents may not.
            assert {each.name: opened.read(each) for each in opened.manifest.files} == true
        except (BundleError, zipfile.BadZipFile, ValueError, NotImplementedError):
            refused += 1
    assert refused >= 20


def test_a_bundle_with_a_file_more_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "more.gpuferry"
    path.write_bytes(bundle.path.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("wheels/extra.whl", b"")
    with pytest.raises(BundleError, match=r"extra\.whl"):
        Bundle(path, bundle.key)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"version": "../../etc"},
        {"version": ""},
        {"roles": {"king": {}}},
        {"roles": []},
        {"files": [{"name": "../x", "sha256": "0" * 64, "size": 1, "roles": []}]},
        {"files": [{"name": "wheels/x.whl", "sha256": "zz", "size": 1, "roles": []}]},
        {"files": [{"name": "wheels/x.whl", "sha256": "0" * 64, "size": -1, "roles": []}]},
        {"files": [{"name": "wheels/x.whl", "sha256": "0" * 64, "size": 1, "roles": []}] * 2},
        {"files": None},
    ],
)
def test_manifests_that_make_no_sense(bundle: Bundle, change: dict[str, object]) -> None:
    content = {**json.loads(bundle.raw), **change}
    with pytest.raises(BundleError):
        parse_manifest(json.dumps(content).encode())


@pytest.mark.parametrize(
    "name", ["../evil.py", "/evil.py", "a/../../evil.py", "a\\..\\evil.py", "x.data/purelib/../../evil.py"]
)
def test_a_wheel_cannot_write_outside_its_folder(tmp_path: Path, name: str) -> None:
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, "")
    with pytest.raises(BundleError):
        unpack_wheel(wheel, tmp_path / "in" / "lib")
    assert not list(tmp_path.rglob("evil.py"))


def test_a_link_in_a_wheel_stays_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/lib.so.1").write_text("library")
    os.symlink("lib.so.1", tmp_path / "a/lib.so")
    files = {"p/lib.so.1": tmp_path / "a/lib.so.1", "p/lib.so": tmp_path / "a/lib.so"}
    wheel = wheels.pack(tmp_path, "p", "1", "py3-none-any", files, {})
    unpack_wheel(wheel, tmp_path / "out")
    assert os.readlink(tmp_path / "out/p/lib.so") == "lib.so.1"
    assert (tmp_path / "out/p/lib.so").read_text() == "library"
    entry = zipfile.ZipInfo("p/evil")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "evil.whl", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(BundleError, match="links to"):
        unpack_wheel(tmp_path / "evil.whl", tmp_path / "out")


def test_the_own_wheel_installs_with_pip_too(bundle: Bundle, tmp_path: Path) -> None:
    own = next(each for each in bundle.manifest.files if each.name.startswith("client/"))
    wheel = tmp_path / own.name.rpartition("/")[2]
    wheel.write_bytes(bundle.read(own))
    target = tmp_path / "target"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert (target / "clientagent/shim/lib/libcuda.so.1").stat().st_size > 100_000
    assert not list(target.rglob("*.cpp"))


def test_the_installer_says_no_to_nonsense(tmp_path: Path) -> None:
    installer = tmp_path / "installer.pyz"
    installer.write_bytes(make_installer())
    for text in ("", "not a request\n", "gpuferry-request {}\n", 'gpuferry-request {"role": "client"}\n'):
        done = subprocess.run(
            [sys.executable, "-I", str(installer), "install", "--root", str(tmp_path / "root")],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert "failure" in json.loads(done.stdout.splitlines()[-1])
    assert not (tmp_path / "root").exists()
