"""The Automation API on HTTP: JSON-RPC at /api, REST at /api/..., and the older REST at /rest/com/vmware/....

URLs of both kinds of REST are worked out from the SDK's tables: ``/cis/tagging/tag/{tagId}?action=attach`` of the new
kind is ``/com/vmware/cis/tagging/tag/id:{tagId}?~action=attach`` of the old, which wraps results in ``value``.
"""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from vmware.vapi.bindings.converter import RestConverter
from vmware.vapi.bindings.type import ListType, MapType, OptionalType, SetType
from vmware.vapi.data.serializers.cleanjson import DataValueConverter
from vmware.vapi.data.value import StructValue

from .automation import SESSION_HEADER, Automation, Caller, Operation, basic_credentials
from .content_library import content_services
from .control import AnswerLost
from .inventory_services import inventory_services
from .session_service import SessionService
from .tagging import CategoryService, TagAssociationService, TagService, TagStore

if TYPE_CHECKING:
    from .world import World

_STATUS = {
    "not_found": 404,
    "unauthenticated": 401,
    "unauthorized": 403,
    "operation_not_found": 404,
    "service_unavailable": 503,
    "timed_out": 504,
    "internal_server_error": 500,
    "unsupported": 400,
}
_CREATED = {"POST"}


@dataclass(frozen=True)
class _Route:
    method: str
    pattern: re.Pattern[str]
    action: str | None
    service_id: str
    operation: Operation
    names: dict[str, str]


class AutomationHttp:
    """Everything below /api and /rest."""

    def __init__(self, world: "World") -> None:
        tags = TagStore(world)
        self.world = world
        self.automation = Automation(
            world,
            [
                SessionService(world),
                CategoryService(world, tags),
                TagService(world, tags),
                TagAssociationService(world, tags),
                *content_services(world),
                *inventory_services(world),
            ],
        )
        self._new: list[_Route] = []
        self._old: list[_Route] = []
        for (service_id, name), operation in self.automation.operations.items():
            if operation.rest is not None:
                self._new.append(_new_route(service_id, operation))
                self._old.append(_old_route(service_id, name, operation))

    async def json_rpc(self, request: Request) -> Response:
        """POST /api."""
        body = (await request.body()).decode()
        headers = dict(request.headers)
        base = f"{request.url.scheme}://{request.url.netloc}"

        def call() -> Response:
            self.world.public_url = base
            try:
                text, extra = self.automation.json_rpc(body, headers)
            except AnswerLost:
                return cut()
            return Response(text, media_type="application/json", headers=extra)

        return await anyio.to_thread.run_sync(call)

    async def rest(self, request: Request) -> Response:
        """Any method on /api/..."""
        return await self._rest(request, self._new, old=False)

    async def old_rest(self, request: Request) -> Response:
        """Any method on /rest/..."""
        return await self._rest(request, self._old, old=True)

    async def _rest(self, request: Request, routes: list[_Route], *, old: bool) -> Response:
        body = await request.body()
        return await anyio.to_thread.run_sync(lambda: self._answer(request, body, routes, old=old))

    def _answer(self, request: Request, body: bytes, routes: list[_Route], *, old: bool) -> Response:
        self.world.public_url = f"{request.url.scheme}://{request.url.netloc}"
        path = "/" + request.path_params["path"]
        action = request.query_params.get("~action" if old else "action")
        for route in routes:
            if route.method != request.method or route.action != action:
                continue
            match = route.pattern.fullmatch(path)
            if match is not None:
                break
        else:
            known = any(each.pattern.fullmatch(path) for each in routes)
            return _error(405 if known else 404, "operation_not_found", [], old)
        try:
            given = _arguments(request, body, route, match.groupdict(), old)
        except ValueError as error:
            return _error(400, "invalid_argument", [{"id": "rest", "default_message": str(error), "args": []}], old)
        caller = Caller(
            self.world,
            self._session(request),
            basic_credentials(request.headers.get("authorization", "")),
            request.client.host if request.client else "",
        )
        mode = RestConverter.VAPI_REST
        value = DataValueConverter.convert_to_data_value(json.dumps(given))
        if not isinstance(value, StructValue):
            return _error(400, "invalid_argument", [], old)
        try:
            result = self.automation.run(route.service_id, route.operation.name, value, caller, mode)
        except AnswerLost:
            return cut()
        return _result(result, request.method, old)

    def _session(self, request: Request) -> Any:
        token = request.headers.get(SESSION_HEADER) or request.cookies.get(SESSION_HEADER)
        with self.world.lock:
            manager: Any = self.world.objects["SessionManager"]
            return manager.find(token)


def _new_route(service_id: str, operation: Operation) -> _Route:
    rest = operation.rest
    path, _, query = rest._url_template.partition("?")
    action = query.removeprefix("action=") if query.startswith("action=") else None
    if action is None and path.startswith("/vcenter/"):
        action = _listed_action(operation, rest)
    names = {variable.replace("-", "_"): field for field, variable in rest._path_variables.items()}
    return _Route(rest.http_method, _pattern(path), action, service_id, operation, names)


def _listed_action(operation: Operation, rest: Any) -> str | None:
    """Operations of com.vmware.vcenter that share a URL: all but create are told apart by an action."""
    plain = {"create", "get", "list", "delete", "update"}
    path = rest._url_template
    if operation.name in plain or path.endswith(f"/{operation.name}"):
        return None
    return str(operation.name).replace("_", "-")


def _old_route(service_id: str, name: str, operation: Operation) -> _Route:
    rest = operation.rest
    path, _, query = rest._url_template.partition("?")
    action = query.removeprefix("action=") if query.startswith("action=") else None
    names = {variable.replace("-", "_"): field for field, variable in rest._path_variables.items()}
    if path.startswith("/vcenter/"):
        return _Route(
            rest.http_method, _pattern(path), action or _listed_action(operation, rest), service_id, operation, names
        )
    service = "/" + service_id.replace(".", "/").replace("_", "-")
    path = f"{service}/id:{{{next(iter(rest._path_variables.values()))}}}" if names else service
    method = rest.http_method
    if action is None and name == "get" and not names:
        method, action = "POST", "get"
    if action is None and method == "POST" and name != "create":
        action = name.replace("_", "-")
    names = dict(list(names.items())[:1])
    return _Route(method, _pattern(path), action, service_id, operation, names)


def _pattern(path: str) -> re.Pattern[str]:
    pieces = re.split(r"\{([^}]+)\}", path)
    return re.compile(
        "".join(
            re.escape(piece) if number % 2 == 0 else f"(?P<{piece.replace('-', '_')}>[^/]+)"
            for number, piece in enumerate(pieces)
        )
    )


def _arguments(request: Request, body: bytes, route: _Route, found: dict[str, str], old: bool) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if body.strip():
        try:
            content = json.loads(body)
        except ValueError as error:
            raise ValueError(f"the body is not JSON: {error}") from None
        parameter = route.operation.rest.request_body_parameter
        names = route.operation.input_type.get_field_names()
        if not old and parameter is not None:
            given[parameter] = content
        elif (
            not old and len(names) == 1 and isinstance(content, dict) and names[0] not in content and names[0] == "spec"
        ):
            given["spec"] = content
        elif isinstance(content, dict):
            given.update(content)
        else:
            raise ValueError("an object is expected")
    given.update({route.names[key]: unquote(value) for key, value in found.items()})
    _add_query(request, route, given, old)
    for name in route.operation.input_type.get_field_names():
        if name not in given and isinstance(route.operation.input_type.get_field(name), OptionalType):
            given[name] = None
    return given


def _add_query(request: Request, route: _Route, given: dict[str, Any], old: bool) -> None:
    fields = route.operation.input_type.get_field_names()
    for key in dict.fromkeys(request.query_params):
        if key in {"action", "~action"}:
            continue
        values = request.query_params.getlist(key)
        name = key.split(".")
        if name[0] in fields and len(name) == 1:
            declared = _inner(route.operation.input_type.get_field(key))
            given[key] = values if isinstance(declared, ListType | SetType | MapType) else values[0]
        elif "filter" in fields:
            field = name[1] if name[0] == "filter" and len(name) > 1 else name[0]
            held = given.setdefault("filter", {})
            held[field] = [*held.get(field, []), *values]


def _inner(declared: Any) -> Any:
    return declared.element_type if isinstance(declared, OptionalType) else declared


def _result(result: Any, method: str, old: bool) -> Response:
    if not result.success():
        kind = str(result.error.name).rpartition(".")[2]
        messages = json.loads(DataValueConverter.convert_to_json(result.error, not old)).get("messages", [])
        return _error(_STATUS.get(kind, 400), kind, messages, old)
    text = DataValueConverter.convert_to_json(result.output, not old)
    if text == "null":
        return Response(status_code=200 if old else 204)
    if old:
        return Response(f'{{"value":{text}}}', media_type="application/json")
    return Response(text, status_code=201 if method in _CREATED else 200, media_type="application/json")


def _error(status: int, kind: str, messages: list[Any], old: bool) -> Response:
    if old:
        content = {"type": f"com.vmware.vapi.std.errors.{kind}", "value": {"messages": messages}}
    else:
        content = {"error_type": kind.upper(), "messages": messages}
    return JSONResponse(content, status_code=status)


def cut() -> Response:
    """No answer at all: the connection is closed."""
    from .server import Cut

    return Cut()
