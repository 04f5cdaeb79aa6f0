"""What can go wrong with a deployment. Every error names the target, what happened and what a person can do."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.deploy.on_target.fitness import Finding


class DeployError(RuntimeError):
    """The family. `target` is the machine's address."""

    def __init__(self, target: str, what: str, remedy: str = "") -> None:
        super().__init__(f"{target}: {what}" + (f" {remedy}" if remedy else ""))
        self.target = target
        self.what = what
        self.remedy = remedy
        self.code = ""
        """The installer's word for it, where it comes from there."""


class UnreachableError(DeployError):
    """No SSH server answers there, or the connection broke."""


class HostKeyUnknownError(DeployError):
    """Nobody has said yet which key this machine has. `fingerprint` is for an operator to compare and confirm."""

    def __init__(self, target: str, host_key: str, fingerprint: str) -> None:
        super().__init__(
            target,
            f"its SSH host key is not known; it shows {fingerprint}.",
            "Compare it with the machine's own record (there: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`) "
            "and confirm it.",
        )
        self.host_key = host_key
        self.fingerprint = fingerprint


class HostKeyChangedError(DeployError):
    """The machine shows another host key than the one it is known by. Never accepted by itself."""

    def __init__(self, target: str, expected: str, shown: str) -> None:
        super().__init__(
            target,
            f"its SSH host key is {shown}, but it is known by {expected}: another machine answers, or it is a new one.",
            "If it is a new one, remove the known key and confirm the new one.",
        )
        self.expected = expected
        self.fingerprint = shown


class LoginRefusedError(DeployError):
    """The SSH server takes neither the key nor the password."""


class SudoRefusedError(DeployError):
    """The user cannot become root."""


class TargetUnfitError(DeployError):
    """The target lacks what it needs; `findings` is all of it."""

    def __init__(self, target: str, findings: Sequence[Finding]) -> None:
        super().__init__(target, "it is not fit: " + "; ".join(str(each) for each in findings))
        self.findings = tuple(findings)


class NoSpaceError(DeployError):
    """The target's disk is full."""


class BundleRefusedError(DeployError):
    """The target does not take the bundle: its signature or a file's digest is wrong, or it is not for this machine."""


class TicketRefusedError(DeployError):
    """The appliance did not enrol the target: the ticket was used, has expired, or the appliance is out of reach."""


class OtherApplianceError(DeployError):
    """The target belongs to another appliance and takes bundles signed by that one only."""


class NotConfirmedError(DeployError):
    """The service was installed and started, and the appliance did not welcome it; the former version is back."""


class BusyError(DeployError):
    """Another deployment is at work on the target."""


class BrokenOffError(DeployError):
    """The connection ended before the target said how it went. The target finishes or puts back what it had begun."""


BY_CODE: dict[str, type[DeployError]] = {
    "signature": BundleRefusedError,
    "bundle": BundleRefusedError,
    "architecture": BundleRefusedError,
    "space": NoSpaceError,
    "ticket": TicketRefusedError,
    "key": OtherApplianceError,
    "verify": NotConfirmedError,
    "refused": NotConfirmedError,
    "busy": BusyError,
}
"""The installer's codes (on_target/report.py)."""
