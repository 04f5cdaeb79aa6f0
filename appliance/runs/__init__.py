"""Provisioning runs: what the appliance does to hosts, virtual machines and guests, step by step.

step.py         what a step is: look, act, undo; the errors of a run
work.py         what a step has at hand while it works: parameters, facts, progress, connections
record.py       the rows of runs and steps; every write of a process that was replaced is refused
engine.py       durable workflows on DBOS: queues with limits, recovery, take-over from a process that died
kinds.py        the kinds of runs and their steps
parameters.py   what a run of each kind is asked with
passthrough.py, server.py, decommission.py, client.py, upgrade.py, acceptance.py    the steps themselves
"""
