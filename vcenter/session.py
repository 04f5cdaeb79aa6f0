"""One login to one vCenter: pyVmomi (SOAP) for inventory, hosts and VMs, the Automation SDK for tags and content
library.

Calls are repeated only where that is safe: any call after an expired session (vCenter refused it, so it did nothing),
any call whose connection could not be made (it was never sent), and read-only calls after a broken connection. A call
that changes something is never sent twice.
"""

# pyVmomi's stub adapters, which are extended here, are unannotated.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit
from xml.parsers.expat import ExpatError

import pyVmomi  # noqa: F401  (loads the type tables before vim is used)
import tenacity
from pyVmomi import vim
from pyVmomi.SoapAdapter import SoapStubAdapter, StubAdapterBase

from vcenter import versions
from vcenter.certificate import Trust, pinned_connection, requests_session
from vcenter.errors import (
    AnswerNotUnderstood,
    CertificateChanged,
    CertificateUntrusted,
    MissingPrivilege,
    NameTaken,
    NotFound,
    TaskFailed,
    Unreachable,
    VcenterError,
    WrongPassword,
    border,
)
from vcenter.versions import Feature

if TYPE_CHECKING:
    from vmware.vapi.vsphere.client import VsphereClient

Result = TypeVar("Result")

# Methods that change nothing, by prefix of their SOAP name: they may be sent again after a broken connection.
_READ_ONLY = ("Retrieve", "Query", "Has", "Fetch", "CurrentTime", "Find", "Validate", "CheckFor", "WaitForUpdates")
# A pooled connection that vCenter has closed meanwhile would break a call that must not be repeated: keep them briefly.
_IDLE_SECONDS = 20
HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?$", re.IGNORECASE)
_CALL_SECONDS = 300


@dataclass(frozen=True)
class Endpoint:
    """Where a vCenter is, who logs in, and how its certificate is trusted."""

    host: str
    user: str
    port: int = 443
    trust: Trust = field(default_factory=Trust)

    @property
    def server(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"

    @classmethod
    def parse(cls, address: str, user: str, trust: Trust | None = None) -> Endpoint:
        """`vc.example.org`, `vc.example.org:8443` or `https://vc.example.org`. Raises ValueError for what can be no
        address: RFC 1123 says what a host's name is.
        """
        parts = urlsplit(address if "//" in address else f"//{address}")
        if not parts.hostname:
            raise ValueError(f"{address!r} names no host")
        name, whole = parts.hostname, parts.scheme in ("", "https") and parts.username is None
        if not whole or parts.path.strip("/") or parts.query or parts.fragment or not (is_ip(name) or HOST.match(name)):
            raise ValueError(f"{address!r} is no address: say HOST or HOST:PORT")
        return cls(name, user, parts.port or 443, trust or Trust())


def is_ip(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


class _NotSent(Exception):
    """The connection could not be made, so the call was certainly not carried out."""


# What a lost connection looks like in pyVmomi: refused, broken, or an answer that is no SOAP (a proxy's error page).
CONNECTION_ERRORS = (_NotSent, ConnectionError, TimeoutError, HTTPException, ExpatError)


class _SoapStub(SoapStubAdapter):
    """pyVmomi's SOAP stub, which tells a connection that was never made from one that broke, and checks a pin
    always.
    """

    def __init__(self, endpoint: Endpoint, version: str) -> None:
        super().__init__(
            host=endpoint.host,
            port=endpoint.port,
            version=version,
            path="/sdk",
            sslContext=endpoint.trust.context(),
            connectionPoolTimeout=_IDLE_SECONDS,
            httpConnectionTimeout=_CALL_SECONDS,
        )
        if endpoint.trust.thumbprint:
            self.scheme: Any = pinned_connection(endpoint.trust.thumbprint)

    def GetConnection(self) -> Any:
        try:
            return super().GetConnection()
        except (ConnectionError, TimeoutError) as lost:
            raise _NotSent(str(lost)) from lost


class SessionStub(StubAdapterBase):
    """The stub behind every managed object of a Session: counts calls, logs in again, repeats what is safe."""

    def __init__(self, soap: _SoapStub, login: Callable[[], None]) -> None:
        super().__init__(version=soap.version)
        self.soap = soap
        self.calls: Counter[str] = Counter()
        self._login = login
        self._login_lock = threading.Lock()
        self._logins = 0

    def login(self, seen: int) -> None:
        """Logs in unless another thread has done so since `seen` logins."""
        with self._login_lock:
            if self._logins == seen:
                self._login()
                self._logins += 1

    def InvokeMethod(self, mo: Any, info: Any, args: Any) -> Any:
        method = str(info.wsdlName)
        read_only = method.startswith(_READ_ONLY)
        for attempt in tenacity.Retrying(
            stop=tenacity.stop_after_attempt(4),
            wait=tenacity.wait_exponential(multiplier=0.2, max=3),
            retry=tenacity.retry_if_exception(lambda e: _repeatable(e, read_only)),
            reraise=True,
        ):
            with attempt:
                return self._once(mo, info, args, method)
        raise AssertionError("tenacity reraises")

    def _once(self, mo: Any, info: Any, args: Any, method: str) -> Any:
        logins = self._logins
        if logins == 0 and method not in ("Login", "RetrieveServiceContent"):
            self.login(0)
            logins = self._logins
        status, answer = self._send(mo, info, args, method)
        if status == 200:
            return answer
        if isinstance(answer, vim.fault.NotAuthenticated) and method not in ("Login", "Logout"):
            self.login(logins)
            status, answer = self._send(mo, info, args, method)
            if status == 200:
                return answer
        raise answer

    def _send(self, mo: Any, info: Any, args: Any, method: str) -> tuple[int, Any]:
        self.calls[method] += 1
        try:
            return self.soap.InvokeMethod(mo, info, args, self)  # type: ignore[no-any-return]
        except (TypeError, KeyError, AttributeError) as odd:
            # pyVmomi checks what we send before it comes here; this is an answer that is not as the API says.
            raise AnswerNotUnderstood(f"The answer to {method} cannot be understood: {odd}.") from odd

    def DropConnections(self) -> None:
        self.soap.DropConnections()


def _repeatable(error: BaseException, read_only: bool) -> bool:
    if isinstance(error, (VcenterError, CertificateUntrusted)):
        return False
    if isinstance(error, _NotSent):
        return True
    return read_only and isinstance(error, CONNECTION_ERRORS)


class Session:
    """A live connection to one vCenter. Safe to share between threads. Close it, or use it as a context manager.

    `password` is a function so that the secret need not be kept: it is asked again when the session has expired.
    Raises WrongPassword, CertificateUntrusted, CertificateChanged, Unreachable or ApiTooOld when it cannot be opened.
    """

    def __init__(self, endpoint: Endpoint, password: Callable[[], str] | str) -> None:
        self.endpoint = endpoint
        self._password = password if callable(password) else lambda: password
        self._rest: VsphereClient | None = None
        self._rest_session: Any = None
        self._rest_lock = threading.Lock()
        with self._border("Connecting to vCenter"):
            self.about = self._announced()
            self.api_version = str(self.about.apiVersion)
            self.stub = SessionStub(_SoapStub(endpoint, versions.negotiated(self.api_version)), self._log_in)
            self._instance = vim.ServiceInstance("ServiceInstance", self.stub)
            self.content: Any = self._instance.RetrieveContent()
        with self._border("Logging in"):
            self.stub.login(0)

    def _announced(self) -> Any:
        """What the server says about itself, asked in the oldest version that every vCenter in use answers; no
        login.
        """
        first = SessionStub(_SoapStub(self.endpoint, "vim.version.version10"), lambda: None)
        try:
            return vim.ServiceInstance("ServiceInstance", first).RetrieveContent().about
        finally:
            first.DropConnections()

    def _log_in(self) -> None:
        manager = vim.SessionManager(self.content.sessionManager._moId, self.stub)
        try:
            manager.Login(self.endpoint.user, self._password(), None)
        except vim.fault.InvalidLogin as fault:
            raise WrongPassword(
                f"{self.endpoint.server} refused the login of {self.endpoint.user}.",
                object_name=self.endpoint.server,
                fault="vim.fault.InvalidLogin",
                fault_message=str(getattr(fault, "msg", "") or ""),
            ) from None

    @contextlib.contextmanager
    def _border(self, what: str) -> Any:
        try:
            with border(what, self.endpoint.server):
                yield
        except _NotSent as lost:
            raise Unreachable(f"{what} failed: {lost}.", object_name=self.endpoint.server) from lost.__cause__

    @contextlib.contextmanager
    def doing(self, what: str, object_name: str = "", remedy: str = "") -> Any:
        """The border around calls on this session's objects: see `errors.border`."""
        try:
            with border(what, object_name or self.endpoint.server, remedy):
                yield
        except _NotSent as lost:
            raise Unreachable(f"{what} failed: {lost}.", object_name=object_name or self.endpoint.server) from None

    def require(self, feature: Feature, object_name: str = "") -> None:
        """Raises ApiTooOld unless this vCenter's API has the feature (an older one would drop it without a word)."""
        versions.require(self.api_version, feature, object_name or self.endpoint.server)

    def has(self, feature: Feature) -> bool:
        return versions.has(self.api_version, feature)

    @property
    def calls(self) -> Counter[str]:
        """How often each SOAP method was called."""
        return self.stub.calls

    def object(self, kind: Any, moid: str) -> Any:
        """The managed object of a type and id, bound to this session; nothing is asked of vCenter."""
        return kind(moid, self.stub)

    # -- the Automation SDK ------------------------------------------------------------------------

    def rest(self, what: str, call: Callable[[VsphereClient], Result], object_name: str = "") -> Result:
        """Runs `call(client)` on the Automation SDK's client, logging in (again) as needed; its errors become ours.

        The SDK takes seconds to import, so that happens at the first use.
        """
        from com.vmware.vapi.std import errors_client as sdk
        from requests.exceptions import RequestException, SSLError

        name = object_name or self.endpoint.server
        try:
            try:
                return call(self._rest_client())
            except sdk.Unauthenticated:
                self._forget_rest()
                return call(self._rest_client())
        except sdk.Unauthenticated as refused:
            raise WrongPassword(f"{what} failed: the login was refused.", object_name=name, **_said(refused)) from None
        except sdk.Unauthorized as refused:
            raise MissingPrivilege(f"{what} failed.", object_name=name, **_said(refused)) from None
        except sdk.NotFound as missing:
            raise NotFound(f"{what} failed.", object_name=name, **_said(missing)) from None
        except sdk.AlreadyExists as taken:
            raise NameTaken(f"{what} failed.", object_name=name, **_said(taken)) from None
        except sdk.Error as failed:
            raise TaskFailed(f"{what} failed.", object_name=name, **_said(failed)) from None
        except SSLError as bad:
            kind = CertificateChanged if self.endpoint.trust.thumbprint else CertificateUntrusted
            raise kind(f"{what} failed: {bad}.", object_name=name) from None
        except RequestException as lost:
            raise Unreachable(f"{what} failed: {lost}.", object_name=name) from None

    def _rest_client(self) -> VsphereClient:
        from vmware.vapi.vsphere.client import create_vsphere_client

        with self._rest_lock:
            if self._rest is None:
                client = create_vsphere_client(
                    server=self.endpoint.server,
                    username=self.endpoint.user,
                    password=self._password(),
                    session=requests_session(self.endpoint.trust),
                )
                # The SDK logs out when its client is garbage-collected: a network call in whatever thread that
                # happens to be. We log out in `close`.
                self._rest_session, client.session_svc = client.session_svc, None
                self._rest = client
            return self._rest

    def _forget_rest(self) -> None:
        with self._rest_lock:
            self._rest = self._rest_session = None

    # -- end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Logs out of both sides; failures to do so are of no consequence (sessions expire)."""
        with contextlib.suppress(Exception):
            if self._rest_session is not None:
                self._rest_session.delete()
        with contextlib.suppress(Exception):
            self.content.sessionManager.Logout()
        self.stub.DropConnections()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _said(error: Any) -> dict[str, str]:
    """Fault name and message of an Automation SDK error."""
    messages = [str(getattr(m, "default_message", "") or "") for m in getattr(error, "messages", None) or []]
    return {
        "fault": f"com.vmware.vapi.std.errors.{type(error).__name__}",
        "fault_message": "; ".join(filter(None, messages)),
    }
