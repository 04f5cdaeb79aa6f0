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

from .api import support
from .control import AnswerLost
from .managed_object import Call
from .soap_dispatch import answer, request_version
from .world import World

_COOKIE = re.compile(r'vmware_soap_session="?([^";,\s]+)"?')
_GZIP_ABOVE = 16_384
_THREADS = 400


def session_of(world: World, token: str | None) -> Any:
    """The session of a token, under the world's lock."""
    with world.lock:
        manager: Any = world.objects["SessionManager"]
        return manager.find(token)


class Service:
    """The HTTP side of one world."""

    def __init__(self, world: World, routes: list[BaseRoute] | None = None) -> None:
        self.world = world
        self.app = Starlette(
            routes=[
                Route("/sdk", self._soap, methods=["POST"]),
                Route("/sdk/", self._soap, methods=["POST"]),
                Route("/sdk/vimServiceVersions.xml", self._versions),
                Route("/sdk/vimService.wsdl", self._versions),
                Route("/", lambda request: PlainTextResponse("gpuferry: a simulated vCenter\n")),
                *(routes or ()),
            ],
        )

    async def _soap(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        return await anyio.to_thread.run_sync(self._answer, request, body, abandon_on_cancel=True)

    def _answer(self, request: Request, body: bytes) -> Response:
        match = _COOKIE.search(request.headers.get("cookie", ""))
        token = match.group(1) if match else request.headers.get("vcsession-cookie")
        call = Call(
            self.world,
            session_of(self.world, token),
            request_version(self.world, request.headers.get("soapaction", "")),
        )
        call.address = request.client.host if request.client else ""
        call.agent = request.headers.get("user-agent", "")
        call.base_url = f"{request.url.scheme}://{request.url.netloc}"
        try:
            status, content = answer(call, body)
        except AnswerLost:
            return _Cut()
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


class _Cut(Response):
    """No answer at all: the connection is closed."""

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        raise ConnectionAbortedError("the answer is lost on purpose")


class Server:
    """A service running on a port, in a thread of its own."""

    def __init__(self, app: Any, host: str, port: int, certificate_file: Path, key_file: Path) -> None:
        self._socket = socket.create_server((host, port), backlog=512)
        # Accepted connections inherit this; asyncio would set it only on sockets made with IPPROTO_TCP by name, and without
        # it every answer's body waits 40 ms for the client's delayed acknowledgement of its headers.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            app,
            log_level="critical",
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
        self._thread.join(timeout=10)
        self._socket.close()

    def _run(self) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

        async def serve() -> None:
            anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
            await self._server.serve(sockets=[self._socket])

        asyncio.run(serve())
