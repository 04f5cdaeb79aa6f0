"""The control plane's language: what the appliance, GPU server daemons and client agents say to each other over ZeroMQ.

    codec.py      dataclass ↔ one JSON frame with a version, every field checked
    messages.py   the messages
    curve.py      keys, enrolment tickets and the identity file of an enrolled peer
    enrolment.py  from a ticket to an identity
    link.py       the peer's end: one connection to every appliance process, heartbeats, reconnecting

Python 3.9 with pyzmq alone: client VMs run it.
"""
