"""`gpuferry list`, `smi`, `stats`: the pool as the appliance knows it, or one GPU server when `--server` names it."""

from __future__ import annotations

from typing import List

from clientagent import pool_commands, pool_show, server_stats, show


def _names_a_server(arguments: List[str]) -> bool:
    return any(argument.split("=")[0] == "--server" for argument in arguments)


def main(arguments: List[str]) -> int:
    return show.list_gpus(arguments) if _names_a_server(arguments) else pool_commands.list_main(arguments)


def smi(arguments: List[str]) -> int:
    return show.smi(arguments) if _names_a_server(arguments) else pool_show.smi_main(arguments)


def stats(arguments: List[str]) -> int:
    return server_stats.main(arguments) if _names_a_server(arguments) else pool_show.stats_main(arguments)
