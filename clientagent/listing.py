"""`gpuferry list`: the pool's GPUs as the appliance knows them, or one GPU server's when `--server` names it."""

from __future__ import annotations

from clientagent import pool_commands, show


def main(arguments: list[str]) -> int:
    if any(argument.split("=")[0] == "--server" for argument in arguments):
        return show.list_gpus(arguments)
    return pool_commands.list_main(arguments)
