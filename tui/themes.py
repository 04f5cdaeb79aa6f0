"""The console's themes, and how states and holders look in them.

States never differ by colour alone: each has a sign of its own. Holders' colours are those of Okabe and Ito ("Color
universal design", 2008), which people with any common colour blindness can tell apart; the holder's name stands beside.
"""

from __future__ import annotations

from zlib import crc32

from textual.theme import Theme

OKABE_ITO = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00", "#bdbdbd")
GREYS = ("#f0f0f0", "#8c8c8c", "#d0d0d0", "#707070", "#b4b4b4", "#e0e0e0", "#7c7c7c", "#c2c2c2")

NIGHT = Theme(
    name="gpuferry-night",
    primary="#5aa9e6",
    secondary="#7fc8a9",
    accent="#f0b429",
    warning="#f0b429",
    error="#ff6b6b",
    success="#6bd490",
    foreground="#dfe6ee",
    background="#0f1720",
    surface="#16212d",
    panel="#1d2b3a",
    dark=True,
)
DAY = Theme(
    name="gpuferry-day",
    primary="#0b5cad",
    secondary="#1b7a5a",
    accent="#a85b00",
    warning="#a85b00",
    error="#b3261e",
    success="#1a7f37",
    foreground="#1b2430",
    background="#fbfcfe",
    surface="#f1f4f8",
    panel="#e3e9f0",
    dark=False,
)
COLOUR_BLIND = Theme(
    name="gpuferry-colour-blind",
    primary="#56b4e9",
    secondary="#009e73",
    accent="#f0e442",
    warning="#e69f00",
    error="#ff8c42",
    success="#56b4e9",
    foreground="#f2f2f2",
    background="#101010",
    surface="#1a1a1a",
    panel="#262626",
    dark=True,
)
NO_COLOUR = Theme(
    name="gpuferry-no-colour",
    primary="#d0d0d0",
    secondary="#b0b0b0",
    accent="#ffffff",
    warning="#e8e8e8",
    error="#ffffff",
    success="#d0d0d0",
    foreground="#e8e8e8",
    background="#000000",
    surface="#0c0c0c",
    panel="#1c1c1c",
    dark=True,
)
THEMES = (NIGHT, DAY, COLOUR_BLIND, NO_COLOUR)

SIGNS = {
    "ok": ("●", "success"),
    "ready": ("●", "success"),
    "active": ("●", "success"),
    "succeeded": ("✔", "success"),
    "done": ("✔", "success"),
    "skipped": ("↷", "secondary"),
    "running": ("▶", "primary"),
    "granted": ("◍", "primary"),
    "queued": ("◷", "warning"),
    "pending": ("·", "foreground"),
    "draining": ("◐", "warning"),
    "warning": ("▲", "warning"),
    "unknown": ("?", "warning"),
    "suspect": ("▲", "error"),
    "failed": ("✖", "error"),
    "away": ("○", "error"),
    "missing": ("○", "error"),
    "revoked": ("⊘", "error"),
    "disabled": ("■", "warning"),
    "maintenance": ("■", "warning"),
    "cancelling": ("◌", "warning"),
    "cancelled": ("⊘", "warning"),
    "rolling-back": ("↶", "warning"),
    "rolled-back": ("↶", "secondary"),
    "undone": ("↶", "secondary"),
    "releasing": ("◌", "warning"),
    "ended": ("◻", "foreground"),
}


def sign(state: str) -> tuple[str, str]:
    """The sign of a state and the theme's colour for it."""
    return SIGNS.get(state, ("·", "foreground"))


def holder_colour(holder: str, theme: str) -> str:
    """The colour in which a holder's slices are drawn: the same for the same holder everywhere."""
    palette = GREYS if theme == NO_COLOUR.name else OKABE_ITO
    return palette[crc32(holder.encode()) % len(palette)]
