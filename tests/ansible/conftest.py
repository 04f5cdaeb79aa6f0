"""The collection, built and installed once; an appliance with a server and a control node that talks to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

APPLIANCE = Path(__file__).parent.parent / "appliance"
sys.path[:0] = [str(APPLIANCE), str(APPLIANCE / "deploy")]

from playing import COLLECTION, Control, environment_of
from service_site import ServiceSite


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ansible-galaxy collection build` makes of the repository's folder."""
    folder = tmp_path_factory.mktemp("built")
    control = Control(folder, folder, {})
    control.run("ansible-galaxy", "collection", "build", str(COLLECTION), "--output-path", str(folder))
    (made,) = folder.glob("gpuferry-pool-*.tar.gz")
    return made


@pytest.fixture(scope="session")
def collections(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean folder into which the tarball is installed."""
    folder = tmp_path_factory.mktemp("collections")
    control = Control(folder, folder, {})
    control.run("ansible-galaxy", "collection", "install", str(tarball), "-p", str(folder), "--offline")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceSite]:
    """An appliance; every module has its own."""
    folder = tmp_path_factory.mktemp("site")
    site = ServiceSite(folder / "site", f"sqlite:///{folder}/appliance.db")
    site.serve()
    try:
        site.await_up(120)
        yield site
    finally:
        site.close()


@pytest.fixture(scope="module")
def control(site: ServiceSite, collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Control:
    return Control(tmp_path_factory.mktemp("control"), collections, environment_of(site))


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    import time

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "it did not come to pass"
            time.sleep(0.05)

    return wait
