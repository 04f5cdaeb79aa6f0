"""The settings of a site that can change while it runs; the API reads and writes them, the database keeps them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.state.models import Setting


class Settings(BaseModel):
    """Times are seconds, memory is MiB."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    heartbeat_s: float = Field(default=2.0, ge=0.1, le=60)
    """How often daemons and agents report."""
    lost_after_s: float = Field(default=8.0, ge=0.5, le=600)
    """Silence after which a server or a keeper is lost."""
    prepare_timeout_s: float = Field(default=5.0, ge=0.5, le=120)
    """A daemon's time to prepare or refuse a lease."""
    patience_s: float = Field(default=120.0, ge=0, le=86400)
    """A request waiting longer is not overtaken any more by smaller ones behind it."""
    default_timeout_s: float = Field(default=0.0, ge=0, le=2_592_000)
    """How long a request waits that names no time-out; 0: until granted."""
    max_lease_s: float = Field(default=0.0, ge=0, le=31_536_000)
    """The longest lease; 0: no limit."""
    idle_after_s: float = Field(default=0.0, ge=0, le=2_592_000)
    """A lease whose programs left its GPUs idle so long is reclaimed; 0: never."""
    idle_notice_s: float = Field(default=300.0, ge=0, le=86400)
    """How long before reclaiming it is announced."""
    drain_deadline_s: float = Field(default=3600.0, ge=0, le=2_592_000)
    """What a drained server's leases are given when no deadline is named."""
    slices_per_gpu: int = Field(default=48, ge=1, le=4096)
    """The most slices of one GPU; each costs a CUDA context."""
    prefer: Literal["close", "packed"] = Field(default="close")
    """What decides first among places that fit: distance, or keeping whole GPUs whole."""
    retention_days: int = Field(default=90, ge=1, le=3650)
    """How long ended leases, events and audit rows are kept."""
    renew_keys_days: int = Field(default=30, ge=0, le=3650)
    """After how long a server or client gets a new key; 0: only when somebody asks for it."""
    former_key_s: float = Field(default=60.0, ge=0, le=86400)
    """How long the former key is still taken after the new one was first used."""
    max_clock_skew_s: float = Field(default=5.0, ge=0.1, le=3600)
    """Above it, a health check warns of the clock."""
    max_temperature_c: int = Field(default=88, ge=30, le=120)
    """Above it, a health check warns of a GPU."""
    max_round_trip_us: float = Field(default=200.0, ge=1, le=1e6)
    """Above it, a health check warns of the path."""
    runs_per_vcenter: int = Field(default=8, ge=1, le=100)
    """How many runs work on one vCenter at a time; taken in when the appliance starts."""
    server_defaults: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the provision-server run that a tag on a host starts: source, network, and what else is wanted."""
    client_defaults: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the enable-client run that a tag on a VM starts."""
    guests_at_once: int = Field(default=50, ge=1, le=500)
    """How many client machines are worked on at a time; taken in when the appliance starts."""
    ssh_user: str = Field(default="gpuferry", min_length=1, max_length=64)
    """Who logs in to servers and clients, where a run does not say otherwise."""
    ssh_key: str = Field(default="", max_length=20000)
    """The private key; it is sealed, and shown as "sealed"."""
    ssh_password: str = Field(default="", max_length=500)
    """Sealed as well."""
    sudo_password: str = Field(default="", max_length=500)
    """Sealed as well."""


SEALED = "sealed"
"""What is shown instead of a secret. Sent back, it leaves the secret as it is."""
SECRETS = ("ssh_key", "ssh_password", "sudo_password")


def read_secrets(session: Session) -> dict[str, str]:
    """The sealed texts of the secrets that are set, by name of the setting."""
    rows = session.scalars(select(Setting).where(Setting.key.in_(SECRETS)))
    return {row.key: row.value["sealed"] for row in rows if row.value.get("sealed")}


def read_settings(session: Session) -> Settings:
    """The defaults with what the site changed; a row this version does not know is left alone."""
    known = {
        row.key: row.value["value"] for row in session.scalars(select(Setting)) if row.key in Settings.model_fields
    }
    return Settings.model_validate(known)
