"""The HTTPS server: SOAP at /sdk, the version file clients look for first, and what other parts mount beside them."""

import asyncio
import gzip
import logging
import re
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from .api import MethodFault, support
from .control import AnswerLost
from .control_http import ControlHttp
from .datastore_browser import read_file
from .http_nfc_lease import Upload, lease_with
from .managed_object import Call
from .soap_dispatch import answer, request_version
from .world import World

_COOKIE = re.compile(r'vmware_soap_session="?([^";,\s]+)"?')
_GZIP_ABOVE = 16_384
_THREADS = 400
_TRANSPORT = "simulator.transport"
_ANY = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def session_of(world: World, token: str | None) -> Any:
    """The session of a token, under the world's lock."""
    with world.lock:
        manager: Any = world.objects["SessionManager"]
        return manager.find(token)


class Service:
    """The HTTP side of one world."""

    def __init__(self, world: World, control_token: str | None = None) -> None:
        self.world = world
        self._automation: Any = None
        self._automation_lock = threading.Lock()
        routes: list[BaseRoute] = []
        if control_token is not None:
            routes.append(Route("/simulator/control", ControlHttp(world, control_token).answer, methods=["POST"]))
        self.app = Starlette(
            routes=[
                Route("/sdk", self._soap, methods=["POST"]),
                Route("/sdk/", self._soap, methods=["POST"]),
                Route("/sdk/vimServiceVersions.xml", self._versions),
                Route("/sdk/vimService.wsdl", self._versions),
                Route("/nfc/{key}/{name}", self._upload, methods=["PUT", "POST"]),
                Route("/folder/{path:path}", self._file, methods=["GET", "HEAD"]),
                Route("/cls/data/{key}/{name}", self._library_upload, methods=["PUT", "POST"]),
                Route("/api", self._json_rpc, methods=["POST"]),
                Route("/api/{path:path}", self._rest, methods=_ANY),
                Route("/rest/{path:path}", self._old_rest, methods=_ANY),
                Route("/", lambda request: PlainTextResponse("gpuferry: a simulated vCenter\n")),
                *routes,
            ],
        )

    async def _http(self) -> Any:
        """The Automation half, whose SDK takes a moment to import: made when it is first asked for."""
        if self._automation is None:

            def make() -> None:
                with self._automation_lock:
                    if self._automation is None:
                        from .automation_http import AutomationHttp

                        self._automation = AutomationHttp(self.world)

            await anyio.to_thread.run_sync(make)
        return self._automation

    async def _json_rpc(self, request: Request) -> Response:
        http = await self._http()
        answer: Response = await http.json_rpc(request)
        return answer

    async def _rest(self, request: Request) -> Response:
        http = await self._http()
        answer: Response = await http.rest(request)
        return answer

    async def _old_rest(self, request: Request) -> Response:
        http = await self._http()
        answer: Response = await http.old_rest(request)
        return answer

    async def _soap(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        hung_up = threading.Event()
        watching = asyncio.create_task(_watch(request, hung_up))
        try:
            return await anyio.to_thread.run_sync(self._answer, request, body, hung_up, abandon_on_cancel=True)
        finally:
            watching.cancel()

    def _answer(self, request: Request, body: bytes, hung_up: threading.Event) -> Response:
        match = _COOKIE.search(request.headers.get("cookie", ""))
        token = match.group(1) if match else request.headers.get("vcsession-cookie")
        call = Call(
            self.world,
            session_of(self.world, token),
            request_version(self.world, request.headers.get("soapaction", "")),
        )
        call.hung_up = hung_up
        call.address = request.client.host if request.client else ""
        call.agent = request.headers.get("user-agent", "")
        call.base_url = f"{request.url.scheme}://{request.url.netloc}"
        try:
            status, content = answer(call, body)
        except AnswerLost:
            return Cut()
        headers = {}
        if len(content) > _GZIP_ABOVE and "gzip" in request.headers.get("accept-encoding", ""):
            content = gzip.compress(content, compresslevel=1)
            headers["content-encoding"] = "gzip"
        response = Response(content, status_code=status, media_type="text/xml; charset=utf-8", headers=headers)
        if call.new_session is not None:
            response.set_cookie(
                "vmware_soap_session", f'"{call.new_session.token}"', path="/", secure=True, httponly=True
            )
            # Starlette quotes the quotes; vCenter's cookie carries them as they are.
            cookie = f'vmware_soap_session="{call.new_session.token}"; Path=/; HttpOnly; Secure;'
            response.headers["set-cookie"] = cookie
        return response

    async def _upload(self, request: Request) -> Response:
        lease = lease_with(self.world, request.path_params["key"])
        name = request.path_params["name"]
        if lease is None or name not in lease.expected:
            return PlainTextResponse("there is no such upload\n", status_code=404)
        upload = Upload()
        async for chunk in request.stream():
            upload.add(chunk)
        try:
            with self.world.lock:
                self.world.control.before_method("PUT", lease.moid, name)
                lease.receive(name, upload.size, upload.digest)
        except AnswerLost:
            return Cut()
        except (KeyError, MethodFault):
            return PlainTextResponse("the lease has ended\n", status_code=500)
        return Response(status_code=201)

    async def _file(self, request: Request) -> Response:
        """A datastore's files over HTTPS, with the SOAP session's cookie or the account's name and password."""
        match = _COOKIE.search(request.headers.get("cookie", ""))
        with self.world.lock:
            manager: Any = self.world.objects["SessionManager"]
            if session_of(self.world, match.group(1) if match else None) is None and not manager.knows_basic(
                request.headers.get("authorization", "")
            ):
                return Response(status_code=401, headers={"www-authenticate": 'Basic realm="VMware HTTP server"'})
            text = read_file(self.world, request.query_params.get("dsName", ""), request.path_params["path"])
        return PlainTextResponse(text) if text is not None else PlainTextResponse("Not Found\n", status_code=404)

    async def _library_upload(self, request: Request) -> Response:
        uploads, library = self.world.library_uploads, self.world.library
        name = request.path_params["name"]
        announced = uploads.expecting(request.path_params["key"], name) if uploads is not None else None
        if announced is None:
            return PlainTextResponse("there is no such upload\n", status_code=404)
        path = library.new_file()
        with path.open("wb") as target:
            async for chunk in request.stream():
                target.write(chunk)
        try:
            with self.world.lock:
                self.world.control.before_method("PUT", name)
                uploads.received(announced, path)
        except AnswerLost:
            return Cut()
        except MethodFault:
            return PlainTextResponse("the upload failed\n", status_code=500)
        return Response(status_code=200)

    def _versions(self, request: Request) -> Response:
        known = support.GetServiceVersions("vim25")
        at = known.index(self.world.version_name)
        prior = [
            support.versionIdMap[each]
            for each in known[at + 1 :]
            if support.versionIdMap[each] and each.startswith("vim.version")
        ]
        text = (
            '<?xml version="1.0" encoding="UTF-8" ?><namespaces version="1.0"><namespace><name>urn:vim25</name>'
            f"<version>{self.world.api_version}</version><priorVersions>"
            + "".join(f"<version>{each}</version>" for each in prior)
            + "</priorVersions></namespace></namespaces>"
        )
        return Response(text, media_type="text/xml")


async def _watch(request: Request, hung_up: threading.Event) -> None:
    """Notes when the client hangs up while its call is still being worked on."""
    while not hung_up.is_set():
        message = await request.receive()
        if message["type"] == "http.disconnect":
            hung_up.set()


class Cut(Response):
    """No answer at all: the connection is closed."""

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        scope[_TRANSPORT].abort()


class _Protocol(H11Protocol):
    """HTTP as uvicorn speaks it; requests carry their connection, so that it can be cut."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        inner: Any = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope[_TRANSPORT] = transport
            await inner(scope, receive, send)

        self.app = app


class Server:
    """A service running on a port, in a thread of its own."""

    def __init__(self, app: Any, host: str, port: int, certificate_file: Path, key_file: Path) -> None:
        # asyncio switches Nagle's algorithm off only for sockets that say they are TCP.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, port))
        self._socket.listen(512)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            app,
            log_level="critical",
            http=_Protocol,
            ssl_certfile=str(certificate_file),
            ssl_keyfile=str(key_file),
            ssl_version=ssl.PROTOCOL_TLS_SERVER,
            timeout_keep_alive=120,
            timeout_graceful_shutdown=1,
            lifespan="off",
            access_log=False,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="simulator-https", daemon=True)

    def start(self) -> None:
        """Returns when connections are accepted. Raises RuntimeError if the server does not come up."""
        self._thread.start()
        for _ in range(1000):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            threading.Event().wait(0.01)
        raise RuntimeError(f"the simulated vCenter does not answer on {self.host}:{self.port}")

    def stop(self) -> None:
        """Closes all connections and frees the port."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(timeout=10)
        self._socket.close()

    def _run(self) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

        async def serve() -> None:
            anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
            await self._server.serve(sockets=[self._socket])

        asyncio.run(serve())
