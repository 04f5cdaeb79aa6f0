"""SessionManager: who is logged in. Sessions are shared by SOAP, JSON-RPC and REST, and expire when idle."""

import base64
import hmac
import secrets
import time
import uuid
from typing import TYPE_CHECKING, Any

from .api import vim
from .managed_object import Call, Managed, method
from .values import build, now
from .world import World

if TYPE_CHECKING:
    from .property_collector import CollectorState


class User:
    """Someone who may log in. ``name`` is user@domain."""

    def __init__(self, name: str, password: str) -> None:
        self.name = name
        self.password = password


class Session:
    """One login. ``token`` is the secret that its clients send as a cookie or header."""

    def __init__(self, user_name: str, unrestricted: bool, address: str = "", agent: str = "") -> None:
        self.key = str(uuid.uuid4())
        self.token = secrets.token_hex(20)
        self.user_name = user_name
        self.unrestricted = unrestricted
        self.login_time = now()
        self.active_time = self.login_time
        self.active = time.monotonic()
        self.address = address
        self.agent = agent
        self.locale = "en"
        self.calls = 0
        self.ended = False
        self.collectors: dict[str, CollectorState] = {}
        self.pages: dict[str, tuple[list[Any], int]] = {}
        self.owned: list[Managed] = []

    def described(self) -> Any:
        """The session as the API shows it; the token is not part of it."""
        return build(
            vim.UserSession,
            key=self.key,
            userName=self.user_name,
            fullName=self.user_name,
            loginTime=self.login_time,
            lastActiveTime=self.active_time,
            locale=self.locale,
            messageLocale=self.locale,
            extensionSession=False,
            ipAddress=self.address,
            userAgent=self.agent,
            callCount=self.calls,
        )


class SessionManager(Managed):
    """Logs in and out."""

    kind = vim.SessionManager
    live_properties = frozenset({"sessionList"})

    def __init__(self, world: World, users: list[User], idle_seconds: float = 1800.0) -> None:
        super().__init__(
            world,
            "SessionManager",
            message="",
            defaultLocale="en",
            supportedLocaleList=["en"],
            messageLocaleList=["en"],
        )
        self.users = {user.name.lower(): user for user in users}
        self.idle_seconds = idle_seconds
        self.sessions: dict[str, Session] = {}
        self._tickets: dict[str, str] = {}

    def knows_basic(self, header: str) -> bool:
        """Whether an ``Authorization: Basic`` header (RFC 7617) holds an account's name and password."""
        kind, _, text = header.partition(" ")
        try:
            name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except ValueError:
            return False
        user = self.users.get(name.lower())
        return (
            kind.lower() == "basic"
            and user is not None
            and hmac.compare_digest(user.password.encode(), password.encode())
        )

    def open(self, name: str, password: str, address: str = "", agent: str = "") -> Session:
        """A new session. Raises vim.fault.InvalidLogin."""
        user = self.users.get(name.lower())
        if user is None or not hmac.compare_digest(user.password.encode(), password.encode()):
            raise vim.fault.InvalidLogin(msg="Cannot complete login due to an incorrect user name or password.")
        rights: Any = self.world.objects["AuthorizationManager"]
        session = Session(user.name, rights.is_administrator(user.name), address, agent)
        self.sessions[session.token] = session
        return session

    def find(self, token: str | None) -> Session | None:
        """The live session of a token; an idle one ends here."""
        session = self.sessions.get(token or "")
        if session is None:
            return None
        if time.monotonic() - session.active > self.idle_seconds:
            self.close(session)
            return None
        session.active = time.monotonic()
        session.active_time = now()
        session.calls += 1
        return session

    def close(self, session: Session) -> None:
        """Ends a session with all that belongs to it: views, filters, collectors."""
        session.ended = True
        self.sessions.pop(session.token, None)
        for state in session.collectors.values():
            for each in list(state.filters.values()):
                each.end()
        for owned in session.owned:
            self.world.remove(owned)
        self.world.changed.notify_all()

    def live(self, name: str) -> Any:
        """``sessionList`` is what is open now."""
        return [session.described() for session in self.sessions.values()]

    def current(self, call: Call) -> Any:
        """The caller's own session, None before login."""
        return call.session.described() if call.session is not None else None

    @method
    def Fetch(self, call: Call, prop: str) -> Any:
        """``currentSession`` is the caller's own."""
        return self.current(call) if prop == "currentSession" else self.get(prop)

    @method
    def Login(self, call: Call, userName: str, password: str, locale: str | None) -> Any:
        """Opens a session; a second login on the same one is refused, as vCenter does."""
        if call.session is not None:
            raise vim.fault.InvalidLogin(msg="The session is already logged in.")
        session = self.open(userName, password, call.address, call.agent)
        session.locale = locale or "en"
        call.new_session = session
        return session.described()

    @method
    def Logout(self, call: Call) -> None:
        """Ends the caller's session."""
        assert call.session is not None  # noqa: S101 - System.View is needed
        self.close(call.session)

    @method
    def TerminateSession(self, call: Call, sessionId: Any) -> None:
        """Ends other sessions by their keys."""
        by_key = {session.key: session for session in self.sessions.values()}
        for key in sessionId:
            if key not in by_key:
                raise vim.fault.NotFound(msg=f"There is no session {key}")
            self.close(by_key[key])

    @method
    def SessionIsActive(self, call: Call, sessionID: str, userName: str) -> bool:
        """Whether a session is still open."""
        return any(
            session.key == sessionID and session.user_name.lower() == userName.lower()
            for session in self.sessions.values()
        )

    @method
    def SetLocale(self, call: Call, locale: str) -> None:
        """The language of messages; this server speaks English only."""
        assert call.session is not None  # noqa: S101
        call.session.locale = locale

    @method
    def AcquireCloneTicket(self, call: Call) -> str:
        """A one-time ticket with which another connection may take the same rights."""
        assert call.session is not None  # noqa: S101
        ticket = f"cst-VCT-{secrets.token_hex(16)}"
        self._tickets[ticket] = call.session.user_name
        return ticket

    @method
    def CloneSession(self, call: Call, cloneTicket: str) -> Any:
        """Opens a session with a clone ticket."""
        name = self._tickets.pop(cloneTicket, None)
        if name is None:
            raise vim.fault.InvalidLogin(msg="The clone ticket is not valid.")
        rights: Any = self.world.objects["AuthorizationManager"]
        session = Session(name, rights.is_administrator(name), call.address, call.agent)
        self.sessions[session.token] = session
        call.new_session = session
        return session.described()
