"""com.vmware.cis.session: logging in and out over the Automation API; the same sessions as SOAP's."""

from typing import Any

from com.vmware import cis_client

from .automation import Caller, Service, failed


class SessionService(Service):
    """Sessions. Their secret goes into the header ``vmware-api-session-id``."""

    stub = cis_client._SessionStub
    anonymous = frozenset({"create"})

    def create(self, caller: Caller) -> str:
        """Logs in with a name and a password. Raises Unauthenticated."""
        if caller.credentials is None:
            raise failed("Unauthenticated", "A user name and a password are needed.")
        manager: Any = self.world.objects["SessionManager"]
        session = manager.open(*caller.credentials, address=caller.address)
        return str(session.token)

    def delete(self, caller: Caller) -> None:
        """Logs out."""
        manager: Any = self.world.objects["SessionManager"]
        manager.close(caller.session)

    def get(self, caller: Caller) -> Any:
        """The caller's session."""
        session: Any = caller.session
        return cis_client.Session.Info(
            user=session.user_name, created_time=session.login_time, last_accessed_time=session.active_time
        )
