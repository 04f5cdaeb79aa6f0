"""From a ticket to an identity: what `gpuferry gpuserver enrol` and `gpuferry client enrol` do."""

from __future__ import annotations

import socket as network
from pathlib import Path

import zmq

from gpuserver.protocol.control.codec import decode, encode, printable
from gpuserver.protocol.control.curve import Identity, Ticket, new_keys, open_dealer
from gpuserver.protocol.control.messages import Enrol, Enrolled


class EnrolmentError(RuntimeError):
    """The appliance did not enrol this machine; the text says why and what to do."""


def enrol(ticket: Ticket, role: str, name: str = "", version: str = "", timeout_s: float = 15.0) -> Identity:
    """Make a key pair and have the appliance enrol it under this ticket. Raises EnrolmentError."""
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
        if not socket.poll(int(timeout_s * 1000)):
            raise EnrolmentError(f"the appliance at {ticket.endpoint} took the request and did not answer; try again")
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
