"""The acceptance test of a GPU server: CuPy on each of its GPUs, run on the server itself, its result kept."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select

from appliance import acceptances
from appliance.deploy.deployment import run_installed
from appliance.deploy.errors import HostKeyUnknownError
from appliance.runs import guest
from appliance.runs.deploying import target
from appliance.runs.step import Look, RunError, Step
from appliance.runs.work import Work
from appliance.state.database import reading, writing
from appliance.state.models import Acceptance, Run, Server, ServerState

TEST_S = 900.0


class Accept(Step):
    """Each GPU allocates, copies both ways, computes what NumPy computes, and counts no ECC error while it does."""

    name = "accept"
    title = "Acceptance test with CuPy"

    def look(self, work: Work) -> Look:
        if not getattr(work.parameters, "accept", True):
            return Look(True, "it was asked to be left out")
        if work.facts.get("accepted"):
            return Look(True, f"passed in this run ({work.facts['accepted']})")
        last = self._last(work)
        if last and not work.facts.get("test_again"):
            return Look(True, f"it is in the pool, and its last test passed ({last})")
        return Look(False, "it has not passed in this run", "run CuPy on each GPU of the server")

    def _last(self, work: Work) -> str:
        """The last test of a server that is in the pool, when it passed."""
        name = getattr(work.parameters, "name", "")
        with reading(work.ground.engine) as session:
            row = session.scalars(select(Server).where(Server.name == name)).one_or_none()
            if row is None or row.state != ServerState.ACTIVE:
                return ""
            query = select(Acceptance).where(Acceptance.server_id == row.id).order_by(Acceptance.id.desc()).limit(1)
            last = session.scalars(query).one_or_none()
            return last.id if last is not None and last.passed else ""

    def act(self, work: Work) -> str:
        options = ["--driver", "softgpu"] if work.facts.get("driver", "") == "softgpu" else []
        if getattr(work.parameters, "driver", "") == "softgpu":
            options = ["--driver", "softgpu"]
        variables = getattr(work.parameters, "environment", None) or work.facts.get("environment", {})
        for name, value in sorted(variables.items()):
            options += ["--set", f"{name}={value}"]
        there = target(work)
        try:
            answer = run_installed(there, "server", ["python", "-m", "gpuserver.acceptance", *options], TEST_S)
        except HostKeyUnknownError as unknown:
            raise guest.waits_for_key(work.ground, unknown, there.address, there.port) from None
        try:
            result: dict[str, Any] = json.loads(answer.output.strip().splitlines()[-1])
        except (ValueError, IndexError):
            said = (answer.errors or answer.output).strip()[-600:]
            raise RunError(
                f"the test ended with status {answer.status} and no result: {said}",
                "Is CuPy on the server (python_path), does `nvidia-smi` work there? Then retry.",
            ) from None
        gpus = result.get("gpus", [])
        with writing(work.ground.engine) as session:
            wanted = len(work.facts.get("gpus") or gpus)
            kept = acceptances.keep(session, work.facts["server"], result, gpus=wanted, run=work.run)
            row, passed, why = kept.id, kept.passed, acceptances.reason(kept.result)
        if not passed:
            raise RunError(
                f"the server failed its acceptance test: {why}",
                "It stays out of the pool. See GET /v1/servers/ID/acceptance, mend the GPU or its driver, and retry.",
            )
        work.keep(accepted=row)
        return "; ".join(summary(gpu) for gpu in gpus)


def summary(gpu: dict[str, Any]) -> str:
    """One GPU's result in a line."""
    return (
        f"GPU {gpu['ordinal']} {gpu['name']}: {gpu['allocated_mib']} MiB, to it {gpu['copy_in_gb_s']:.2f} GB/s, "
        f"from it {gpu['copy_out_gb_s']:.2f} GB/s, on it {gpu['on_device_gb_s']:.2f} GB/s, "
        f"ECC {gpu['ecc_before']} -> {gpu['ecc_after']}"
    )


class FindEnrolled(Step):
    """A server that is in the books already, and the machine it runs on."""

    name = "find-enrolled"
    title = "Find the server and its machine"
    check = True

    def look(self, work: Work) -> Look:
        wanted = work.parameters.server
        with reading(work.ground.engine) as session:
            row = session.scalars(select(Server).where((Server.id == wanted) | (Server.name == wanted))).first()
            if row is None:
                raise RunError(f"there is no server {wanted!r}", "See GET /v1/servers.")
            facts = made_by(session, row.name)
            address, _, _ = row.address.rpartition(":")
            work.keep(server=row.id, server_name=row.name, test_again=True)
        if facts is not None:
            kept = ("address", "port", "gpus", "vm", "host", "host_name")
            work.keep(**{name: facts[0][name] for name in kept if name in facts[0]})
            work.keep(driver=facts[1].get("driver", ""), environment=facts[1].get("environment", {}))
        else:
            work.keep(address=address.strip("[]"), port=work.parameters.ssh.port or 22)
        return Look(True, f"{row.name} is {row.state} at {work.facts['address']}")


def made_by(session: Any, name: str, kind: str = "provision-server") -> tuple[dict[str, Any], dict[str, Any]] | None:
    """(facts, parameters) of the latest run that made a server or client of this name."""
    query = select(Run).where(Run.kind == kind, Run.subject == name, Run.state == "succeeded").order_by(Run.id.desc())
    row = session.scalars(query.limit(1)).first()
    return (dict(row.facts), dict(row.parameters)) if row is not None else None
