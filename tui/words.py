"""The words of the product, for the console's help. One meaning each, the same everywhere."""

from __future__ import annotations

WORDS = {
    "appliance": (
        "The management service: inventory, pool, leases, provisioning runs, REST API. It is never on "
        "the way of a program's data: when it stops, running programs do not notice."
    ),
    "host": "An ESXi host.",
    "GPU server": "A VM with GPUs passed through to it by DirectPath I/O; it runs the GPU server daemon.",
    "GPU": "One physical device of a GPU server, named by its UUID.",
    "slice": "A share of one GPU: memory in MiB, and optionally a share of its multiprocessors.",
    "lease": (
        "What a client holds: one or more slices, from one or more servers, until released or lost. It "
        "is queued, then granted (its slices are reserved), then active (every daemon is ready), then "
        "ended."
    ),
    "client": (
        "A VM whose programs use leases; it runs the client agent. Clients belong to groups, which have "
        "quotas, a weight and a priority."
    ),
    "session": (
        "One program's live connection to one GPU server under a lease; the server runs one worker process for it."
    ),
    "run": ("One provisioning run: ordered steps against vCenter and over SSH; recorded, resumable, cancellable."),
    "forwarding": "Carrying a program's CUDA driver calls from the client to the worker.",
    "blocking round trip": (
        "A call that waits for the server's answer. Their number, times the distance, is what a program "
        "loses over the network."
    ),
    "drain": (
        "Take a server out of service: no new leases; those there end at the deadline; then it is in maintenance."
    ),
    "keeper": "The process whose signs of life keep a lease: the program's own, or the client's agent.",
    "reading": "The last result of one health check: value, threshold, what it means, what to do.",
}

KEYS = """\
| key | what it does |
|---|---|
| `1` … `7` | the tabs |
| `Tab`, `Shift+Tab` | the next part of a tab |
| arrows, `Page Up/Down`, `g`, `G` | move; to the top, to the end |
| `/` | filter what is shown; `Esc` clears |
| `Enter` | open what is under the cursor |
| `Space` | mark, where several can be chosen |
| `y` | copy as command: the `gpuferry …` or API call that does the same |
| `F5` or `r` | read again now |
| `Ctrl+P` | the command palette: everything by name |
| `Ctrl+T` | the next theme: night, day, colour-blind, no colour |
| `?` or `F1` | this help |
| `q` | quit |

What else a key does here stands in the footer.
"""

SIGNS = """\
| sign | meaning |
|---|---|
| `●` | ready, active, ok |
| `▲` | a warning: a reading is beyond its threshold, or a GPU is suspect |
| `✖` | failed |
| `○` | away: nothing is heard of it, or it is missing |
| `◐` | draining |
| `■` | out of service: maintenance, or disabled |
| `◷` | waiting in the queue |
| `⊘` | revoked or cancelled |
| `·` in a GPU's line | free memory |
| `╱` in a GPU's line | memory of a GPU that takes no leases now |
"""


def help_text() -> str:
    """The help as Markdown."""
    words = "\n".join(f"- **{word}**: {meaning}" for word, meaning in WORDS.items())
    return f"## Keys\n\n{KEYS}\n## Words\n\n{words}\n\n## Signs\n\n{SIGNS}"
