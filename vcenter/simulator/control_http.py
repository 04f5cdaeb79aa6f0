"""The control of a simulation from outside its process: JSON to /simulator/control, guarded by a token.

``{"do": "fail", "method": "PowerOnVM_Task", "step": "power on", "on": "gpu-server-1", "fault": {"name": "InvalidState",
"message": "..."}}`` and so on: every message names one method of ``Control`` in ``do`` and gives its arguments.
"""

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .control import fault_named

if TYPE_CHECKING:
    from .world import World

TOKEN_HEADER = "x-simulator-token"  # noqa: S105 - the name of a header


class ControlHttp:
    """One route."""

    def __init__(self, world: "World", token: str) -> None:
        self._world = world
        self._token = token
        self._actions: dict[str, Callable[..., Any]] = {
            "fail": self._fail,
            "lose_answer": self._lose_answer,
            "delay": world.control.delay,
            "clear": world.control.clear,
            "expire_sessions": world.control.expire_sessions,
            "set_password": world.control.set_password,
            "restrict": world.control.restrict,
            "count": world.control.count,
            "record": lambda: bool(world.control.record()) or None,
            "seen": lambda: [[each.method, each.target, each.step] for each in world.control.seen],
            "pace": self._pace,
        }

    async def answer(self, request: Request) -> Response:
        """POST: do something. 401 without the token, 400 for what makes no sense."""
        if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), self._token.encode()):
            return JSONResponse({"error": f"the header {TOKEN_HEADER} is missing or wrong"}, status_code=401)
        try:
            message = await request.json()
            action = self._actions[message.pop("do")]
        except (ValueError, KeyError, TypeError, AttributeError):
            return JSONResponse({"error": f"do: one of {', '.join(self._actions)}"}, status_code=400)
        try:
            result = await anyio.to_thread.run_sync(lambda: action(**message))
        except (TypeError, KeyError, ValueError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse({"result": result})

    def _fail(self, fault: dict[str, Any] | None = None, **plan: Any) -> None:
        made = None
        if fault is not None:
            fields = {key: value for key, value in fault.items() if key not in {"name", "message"}}
            made = fault_named(fault["name"], fault.get("message", "failure injected by a test"), fields)
        self._world.control.fail(fault=made, **plan)

    def _lose_answer(self, **plan: Any) -> None:
        self._world.control.lose_answer(**plan)

    def _pace(self, seconds: float) -> None:
        with self._world.lock:
            self._world.pace = float(seconds)
