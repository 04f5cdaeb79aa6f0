"""From a ticket to an identity: what `gpuferry gpuserver enrol` and `gpuferry client enrol` do."""

from __future__ import annotations

import socket as network
import time
from pathlib import Path

import zmq

from gpuserver.protocol.control.codec import decode, encode, printable
from gpuserver.protocol.control.curve import Identity, Ticket, new_keys, open_dealer
from gpuserver.protocol.control.messages import Enrol, Enrolled

ANSWER_S = 60.0
"""How long a busy appliance's answer is waited for."""
ASK_AGAIN_S = 5.0
"""The question is put again after so long: the same key with the same ticket gets the same answer."""


class EnrolmentError(RuntimeError):
    """The appliance did not enrol this machine; the text says why and what to do."""


def enrol(ticket: Ticket, role: str, name: str = "", version: str = "", timeout_s: float = 30.0) -> Identity:
    """Make a key pair and have the appliance enrol it under this ticket. Raises EnrolmentError.

    `timeout_s` is the time to connect in.
    """
    public, secret = new_keys()
    hostname = printable(network.gethostname())
    context = zmq.Context()
    socket = open_dealer(context, ticket.endpoint, public, secret, ticket.appliance_key)
    try:
        wanted = Enrol(token=ticket.token, role=role, name=name or hostname, hostname=hostname, version=version)
        socket.setsockopt(zmq.SNDTIMEO, int(timeout_s * 1000))
        try:
            socket.send(encode(wanted))
        except zmq.Again:
            raise EnrolmentError(
                f"no appliance with the ticket's key answers at {ticket.endpoint} within {timeout_s:g} s: "
                "check the address, the firewall, and that the ticket is of this appliance"
            ) from None
        deadline = time.monotonic() + ANSWER_S
        while not socket.poll(int(ASK_AGAIN_S * 1000)):
            if time.monotonic() > deadline:
                raise EnrolmentError(
                    f"the appliance at {ticket.endpoint} took the request and did not answer within {ANSWER_S:g} s: "
                    "see its log, then try again with a new ticket"
                )
            try:
                socket.send(encode(wanted), zmq.NOBLOCK)
            except zmq.Again:
                continue  # It is being restarted.
        answer = decode(socket.recv())
    finally:
        socket.close(linger=0)
        context.term()
    if not isinstance(answer, Enrolled):
        raise EnrolmentError(getattr(answer, "reason", "the appliance answered something else"))
    return Identity(
        id=answer.id,
        name=answer.name,
        role=role,
        public_key=public,
        secret_key=secret,
        appliance_key=ticket.appliance_key,
        endpoints=answer.endpoints,
    )


def enrol_into(path: Path, ticket: Ticket, role: str, name: str = "", version: str = "") -> Identity:
    """Enrol and keep the identity in `path`. Raises EnrolmentError."""
    identity = enrol(ticket, role, name, version)
    identity.save(path)
    return identity
