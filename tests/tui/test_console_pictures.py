"""The pictures of docs/console are those of the console as it is: a screen that changed needs a new picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_site import ConsoleSite
from screens import SIZES, differences, lines_of, pictured_site, plain, said, take_all

KEPT = Path(__file__).resolve().parents[2] / "docs" / "console"


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSite]:
    with pictured_site(tmp_path_factory.mktemp("pictures")) as site:
        yield site


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_kept_pictures_show_the_console_as_it_is(pictured: ConsoleSite, size: tuple[int, int]) -> None:
    taken = take_all(pictured, size)
    kept = {path.name: path.read_text() for path in KEPT.glob(f"*-{size[0]}x{size[1]}.svg")}
    how = "python tests/tui/make_pictures.py takes them anew; look at them before they are kept"
    assert set(kept) == set(taken), how
    stale = {}
    for file, picture in taken.items():
        name = file.removesuffix(".svg")
        assert len(lines_of(picture)) <= size[1]
        found = differences(said(name, kept[file]), said(name, picture))
        if found:
            stale[file] = found
    assert not stale, how
    grey = re.findall(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})\b", taken.get("pool-no-colour-80x24.svg", ""))
    # The drawn window's buttons and the colour of its title.
    window = {("ff", "5f", "57"), ("fe", "bc", "2e"), ("28", "c8", "40"), ("c5", "c8", "c6")}
    assert all(red == green == blue for red, green, blue in set(grey) - window), "no colour is no colour"


def test_what_changes_by_itself_is_left_out_of_a_comparison() -> None:
    assert plain("│ ● live 12:04:55  3 min  lease-01m82abcdefg │") == plain("● live 09:00:01 7 s lease-01zzzzzzzzz")
    assert differences(["Queue # render-farm all pla"], ["Queue # render-farm all places"]) == []
    assert differences(["● gpu-a01 ready"], ["○ gpu-a01 away"]) == ["- ● gpu-a01 ready", "+ ○ gpu-a01 away"]
    assert plain("● gpu-a01 ready") != plain("○ gpu-a01 away")
