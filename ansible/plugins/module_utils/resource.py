"""A thing of the API that has a name and is made, changed and removed: groups and vCenters."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from ansible_collections.gpuferry.pool.plugins.module_utils.rest import ApplianceError
from ansible_collections.gpuferry.pool.plugins.module_utils.task import MEETINGS, chosen, differing


class Resource:
    """`shown` are the fields that a difference is told in; secrets are none of them."""

    def __init__(self, task, path, shown):
        self.task = task
        self.path = path
        self.shown = shown

    def find(self, name):
        """Its document and version, or (None, None)."""
        found = self.task.api.named(self.path, name)
        if found is None:
            return None, None
        answer = self.task.api.get("%s/%s" % (self.path, found["id"]))
        return answer.body, answer.etag

    def view(self, document):
        return None if document is None else chosen(document, self.shown)

    def ensure(self, name, wanted, defaults, secrets=None, secrets_always=False):
        """Make it or change it; returns (document before or None, document after, whether a secret was written).

        `defaults` are the values of a new one that are not in `wanted`. `secrets` go into a new one; into one that is
        there with `secrets_always` only.
        """
        secrets = secrets or {}
        for meeting in range(1, MEETINGS + 1):
            before, etag = self.find(name)
            try:
                if before is None:
                    after = dict(defaults, name=name, **wanted)
                    if not self.task.dry:
                        given = {key: value for key, value in after.items() if value is not None}
                        after = self.task.api.post(self.path, dict(given, **secrets)).body
                    return None, after, bool(secrets)
                change = differing(before, wanted)
                written = secrets if secrets_always else {}
                if not (change or written):
                    return before, before, False
                after = dict(before, **change)
                if not self.task.dry:
                    change.update(written)
                    after = self.task.api.patch("%s/%s" % (self.path, before["id"]), change, etag).body
                return before, after, bool(written)
            except ApplianceError as error:
                # 412: changed meanwhile. 409 on making: somebody made it meanwhile, or the change contradicts.
                if (
                    error.status not in (409, 412)
                    or meeting == MEETINGS
                    or (error.status == 409 and before is not None)
                ):
                    raise
        raise AssertionError("unreachable")

    def remove(self, name):
        """Remove it; returns the document it had, or None."""
        for meeting in range(1, MEETINGS + 1):
            before, etag = self.find(name)
            if before is None or self.task.dry:
                return before
            try:
                self.task.api.delete("%s/%s" % (self.path, before["id"]), etag)
                return before
            except ApplianceError as error:
                if error.status == 404:
                    return before
                if error.status != 412 or meeting == MEETINGS:
                    raise
        raise AssertionError("unreachable")
