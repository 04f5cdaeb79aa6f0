"""The appliance's REST API: one small client for modules, the inventory plug-in and the lease keeper.

Only ansible-core's own `urls` is used. Every error names what was asked and what to do about it.
"""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
import time
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode

from ansible.module_utils.urls import ConnectionError as NoConnectionError
from ansible.module_utils.urls import SSLValidationError, open_url

ATTEMPTS = 4
"""How often a read is tried when the appliance does not answer or says that it is not available."""
PAUSE_S = 0.5

REMEDIES = {
    401: "Give `appliance_token` (or GPUFERRY_TOKEN) a valid token: `gpuferry appliance token --scope operator`.",
    403: "Use a token of that scope: `gpuferry appliance token --scope admin`.",
    412: "Run the task again.",
    503: "See `gpuferry appliance status` on the appliance.",
}


class ApplianceError(Exception):
    """A request that failed. `status` is 0 when there was no answer at all."""

    def __init__(self, text, status=0, trace=""):
        super(ApplianceError, self).__init__(text)
        self.status = status
        self.trace = trace


class Answer:
    """A document and the version (ETag) it was read in."""

    def __init__(self, body, etag):
        self.body = body
        self.etag = etag


class Appliance:
    """`url` is the address of the REST API, as in https://gpu.lab:4743."""

    def __init__(self, url, token, ca_path=None, validate_certs=True, timeout=30):
        self.url = url.rstrip("/")
        self.token = token
        self.ca_path = ca_path
        self.validate_certs = validate_certs
        self.timeout = timeout

    @classmethod
    def of_options(cls, options):
        """Of the options that the documentation fragment `gpuferry.pool.appliance` describes."""
        return cls(
            options["appliance_url"],
            options["appliance_token"],
            options["appliance_ca_path"],
            options["appliance_validate_certs"],
            options["appliance_timeout"],
        )

    def get(self, path, **query):
        """Read a document. Raises ApplianceError."""
        return self._document(self._read(path, query))

    def content(self, path):
        """Read the bytes of something that is no document. Raises ApplianceError."""
        return self._read(path, {}).body

    def _read(self, path, query):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._exchange("GET", path, query)
            except ApplianceError as error:
                if error.status not in (0, 502, 503) or attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE_S * attempt)
        raise AssertionError("unreachable")

    def every(self, path, **query):
        """All items of a list, page after page. Raises ApplianceError."""
        items, cursor = [], None
        while True:
            page = self.get(path, limit=500, cursor=cursor, **query).body
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items

    def named(self, path, called, **query):
        """The item of a list that has exactly this name, or None. Raises ApplianceError."""
        found = [each for each in self.every(path, **query) if each["name"] == called]
        return found[0] if found else None

    def post(self, path, body, **query):
        """Make something. Raises ApplianceError."""
        return self._send("POST", path, query, body)

    def patch(self, path, body, etag):
        """Change the version `etag` of something. Raises ApplianceError."""
        return self._send("PATCH", path, {}, body, etag)

    def put(self, path, body):
        """Set something. Raises ApplianceError."""
        return self._send("PUT", path, {}, body)

    def delete(self, path, etag):
        """Remove or end the version `etag` of something. Raises ApplianceError."""
        return self._send("DELETE", path, {}, None, etag)

    def _send(self, method, path, query, body=None, etag=None):
        return self._document(self._exchange(method, path, query, body, etag))

    def _document(self, answer):
        try:
            answer.body = json.loads(answer.body) if answer.body else None
        except ValueError as error:
            raise self._silent(error) from None
        return answer

    def _exchange(self, method, path, query, body=None, etag=None):
        """An answer whose body is bytes."""
        headers = {"Authorization": "Bearer " + self.token, "Accept": "application/json"}
        if etag is not None:
            headers["If-Match"] = etag
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body)
        given = [(key, value) for key, value in query.items() if value is not None]
        address = self.url + path + ("?" + urlencode(given, doseq=True) if given else "")
        try:
            answer = open_url(
                address,
                data=data,
                headers=headers,
                method=method,
                timeout=self.timeout,
                validate_certs=self.validate_certs,
                ca_path=self.ca_path,
                follow_redirects="none",
                http_agent="ansible-gpuferry-pool",
            )
            return Answer(answer.read(), answer.headers.get("ETag"))
        except HTTPError as error:
            raise self._refused(method, path, error) from None
        except (SSLValidationError, NoConnectionError, URLError, OSError, ValueError) as error:
            raise self._silent(error) from None

    @staticmethod
    def _refused(method, path, error):
        try:
            problem = json.loads(error.read())
        except (OSError, ValueError):
            problem = {}
        if not isinstance(problem, dict) or "detail" not in problem:
            problem = {
                "detail": "%s %s was answered with status %d, not by a gpuferry appliance" % (method, path, error.code)
            }
        # Where in a request it is wrong is the name of an option here.
        text = str(problem["detail"]).replace("body.", "").rstrip(".") + "."
        if error.code in REMEDIES:
            text += " " + REMEDIES[error.code]
        return ApplianceError(text, error.code, str(problem.get("trace", "")))

    def _silent(self, error):
        reason = getattr(error, "reason", None) or error
        if "CERTIFICATE_VERIFY_FAILED" in str(reason) or isinstance(error, SSLValidationError):
            remedy = "Give `appliance_ca_path` the site's certificate authority (ca.pem in the appliance's folder)."
        else:
            remedy = "Check `appliance_url`, and that `gpuferry appliance serve` runs there and the port is open."
        return ApplianceError("The appliance at %s does not answer: %s. %s" % (self.url, reason, remedy))


def quoted(part):
    """A name or an id as one part of a path."""
    return quote(part, safe="")
