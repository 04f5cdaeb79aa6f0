"""Takes the pictures of docs/console: every screen of a furnished site at 80×24 and 160×50, as SVG.

    python tests/tui/make_pictures.py [docs/console]

A simulated vCenter, a real appliance, daemons over the real bus; nothing in the pictures is drawn by hand.
"""

# ruff: noqa: E402 - the folders of the tests are put on the path first
from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE), str(HERE.parent / "appliance")]

from screens import SIZES, pictured_site, take_all


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/console")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpuferry-pictures-") as name, pictured_site(Path(name)) as site:
        os.environ["XDG_CONFIG_HOME"] = name
        for size in SIZES:
            for file, picture in take_all(site, size).items():
                (folder / file).write_text(picture)


if __name__ == "__main__":
    main()
