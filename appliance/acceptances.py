"""What a GPU server's acceptance test came to, kept with the server whoever ran it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from appliance.ids import new_id
from appliance.state.models import Acceptance, Event


def keep(session: Session, server: str, result: dict[str, Any], *, gpus: int, run: str = "") -> Acceptance:
    """Note a result as `gpuserver.acceptance` printed it; `gpus` the server has. It passed if each of them did."""
    tested = result.get("gpus", [])
    passed = bool(result.get("passed")) and bool(tested) and all(each.get("passed") for each in tested)
    result = {**result, "passed": passed}
    if passed and len(tested) != gpus:
        result |= {"passed": False, "error": f"{len(tested)} GPUs were tested, the server has {gpus}"}
    row = Acceptance(id=new_id("acceptance"), server_id=server, run_id=run, passed=result["passed"], result=result)
    said = "passed" if row.passed else f"failed: {reason(result)}"
    session.add_all([row, Event(kind="server.acceptance", subject=server, text=said[:500])])
    return row


def reason(result: dict[str, Any]) -> str:
    """Why a result did not pass."""
    wrong = [f"GPU {gpu.get('ordinal')}: {gpu['error']}" for gpu in result.get("gpus", []) if gpu.get("error")]
    return "; ".join([*([result["error"]] if result.get("error") else []), *wrong]) or "no GPU was tested"
