"""Speaks to the appliance's REST API: calls, lists in pages, and the stream of events (server-sent events)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from tui.calls import Call, Document
from tui.profile import Profile

SILENCE_S = 40.0
"""The appliance says something on the stream every 15 s at least: after this silence the connection is dead."""


class ApplianceError(RuntimeError):
    """A call did not succeed; the text is for people."""


class UnreachableError(ApplianceError):
    """The appliance does not answer, or not as one."""


class RefusedError(ApplianceError):
    """The appliance said no. `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class TokenError(RefusedError):
    """The token is unknown, expired or revoked."""


@dataclass(frozen=True)
class Event:
    """Something that happened: `kind` is `lease.granted`, `run.step`, ...; `topic` its part before the dot."""

    id: int
    kind: str
    subject: str
    text: str
    at: str

    @property
    def topic(self) -> str:
        return self.kind.partition(".")[0]


class Appliance:
    """One appliance, with one token. Raises ProfileError when its files cannot be used."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        headers = {"Authorization": f"Bearer {profile.token()}", "User-Agent": "gpuferry-console"}
        # The appliance closes connections that were idle for 5 s: none is kept so long here.
        limits = httpx.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=3.0)
        self.http = httpx.AsyncClient(
            base_url=profile.url,
            headers=headers,
            verify=profile.trust(),
            timeout=httpx.Timeout(15.0, connect=5.0),
            limits=limits,
            trust_env=False,
        )
        self._known: dict[str, tuple[str, Any]] = {}
        """Of large documents: their ETag and content, as they were last read."""

    async def close(self) -> None:
        await self.http.aclose()

    async def send(self, call: Call) -> Any:
        """The answer's document; bytes where it is none, None where it is empty. Raises ApplianceError."""
        return document(await self._answer(call, {"If-Match": call.match} if call.match else {}), self.profile.url)

    async def send_unless_known(self, call: Call) -> Any:
        """As `send`, for a large document that seldom changes: while it is the same, it is the very same object."""
        tag, known = self._known.get(call.path, ("", None))
        answer = await self._answer(call, {"If-None-Match": tag} if tag else {})
        if answer.status_code == 304:
            return known
        made = document(answer, self.profile.url)
        self._known[call.path] = answer.headers.get("ETag", ""), made
        return made

    async def _answer(self, call: Call, headers: dict[str, str]) -> httpx.Response:
        request = self.http.build_request(
            call.method, call.path, params=list(call.query), json=call.body, headers=headers
        )
        try:
            try:
                answer = await self.http.send(request)
            except httpx.RemoteProtocolError:
                # It closed an idle connection in the very moment of its use. Only POST may not be sent twice.
                if call.method == "POST":
                    raise
                answer = await self.http.send(request)
        except httpx.TransportError as failure:
            raise UnreachableError(f"{self.profile.url} does not answer: {reason(failure)}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            raise UnreachableError(f"{self.profile.url} cannot be asked: {reason(failure)}") from None
        check(answer)
        return answer

    async def page(self, call: Call, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        """One page of a list, and the cursor of the next; None at its end."""
        more = (("limit", str(limit)), *((("cursor", cursor),) if cursor else ()))
        told = await self.send(Call("GET", call.path, (*call.query, *more)))
        return told["items"], told["next"]

    async def every(self, call: Call, most: int = 100_000) -> list[Document]:
        """All pages of a list, up to `most` items."""
        items: list[Document] = []
        cursor: str | None = None
        while True:
            page, cursor = await self.page(call, 500, cursor)
            items += page
            if cursor is None or len(items) >= most:
                return items

    async def follow(self, after: int | None) -> AsyncIterator[Event | None]:
        """Events as they happen; None is a sign of life. Ends when the appliance ends it. Raises ApplianceError."""
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        try:
            timeout = httpx.Timeout(10.0, connect=5.0, read=SILENCE_S)
            async with self.http.stream("GET", "/v1/events/stream", headers=headers, timeout=timeout) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                check(answer)
                yield None
                async for line in answer.aiter_lines():
                    if line.startswith("data:"):
                        told = json.loads(line[5:])
                        yield Event(told["id"], told["kind"], told["subject"], told["text"], told["at"])
                    elif line.startswith(":"):
                        yield None
        except (httpx.HTTPError, httpx.StreamError) as failure:
            raise UnreachableError(f"{self.profile.url}: {reason(failure)}") from None
        except (ValueError, KeyError) as malformed:
            raise UnreachableError(f"{self.profile.url} sends events that cannot be read: {malformed}") from None


def document(answer: httpx.Response, url: str) -> Any:
    """What an answer holds: a document, bytes where it is none, None where it is empty. Raises UnreachableError."""
    if not answer.content:
        return None
    if "json" not in answer.headers.get("content-type", ""):
        return answer.content
    try:
        return answer.json()
    except ValueError:
        raise UnreachableError(f"{url} answers, but not as an appliance does") from None


def reason(failure: Exception) -> str:
    """An error of the network in words."""
    text = str(failure)
    if isinstance(failure, httpx.TimeoutException):
        return "no answer in time"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted: name the appliance's ca.pem with --ca"
    if "All connection attempts failed" in text or "Connection refused" in text:
        return "nothing listens there"
    return text or type(failure).__name__


def check(answer: httpx.Response) -> None:
    """Raise what an answer of 400 and above means."""
    if answer.status_code < 400:
        return
    try:
        text = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        text = answer.reason_phrase or "no reason was given"
    if answer.status_code == 401:
        raise TokenError(401, text)
    raise RefusedError(answer.status_code, text)
