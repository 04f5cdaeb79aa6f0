"""The Automation API: one table of services, spoken to as JSON-RPC at /api and as REST at /api and /rest.

As pyVmomi's tables drive SOAP, so the SDK's own stubs (``vmware-vcenter``) drive this half: types of inputs and
results, URLs and HTTP methods all come from them. A service here is a class whose methods are the operations.
"""

import base64
import functools
import logging
from typing import TYPE_CHECKING, Any, ClassVar

from com.vmware.vapi.std import errors_client
from com.vmware.vapi.std_client import LocalizableMessage
from vmware.vapi.bindings.converter import TypeConverter
from vmware.vapi.bindings.error import VapiError
from vmware.vapi.core import ApiProvider, MethodResult
from vmware.vapi.exception import CoreException
from vmware.vapi.protocol.server.msg.json_handler import JsonApiHandler

from .api import MethodFault, vim
from .control import AnswerLost

if TYPE_CHECKING:
    from .session_manager import Session
    from .world import World

_log = logging.getLogger(__name__)
SESSION_HEADER = "vmware-api-session-id"


def failed(kind: str, text: str) -> Any:
    """One of the API's standard errors (``NotFound``, ``InvalidArgument`` and so on) with a message."""
    message = LocalizableMessage(id="gpuferry.simulator", default_message=text, args=[])
    return getattr(errors_client, kind)(messages=[message])


class Caller:
    """Who calls: the session, or the name and password of a login."""

    def __init__(
        self, world: "World", session: "Session | None", credentials: tuple[str, str] | None = None, address: str = ""
    ) -> None:
        self.world = world
        self.session = session
        self.credentials = credentials
        self.address = address
        self.base_url = ""

    def demand(self, privilege: str, reference: Any = None) -> None:
        """Raises Unauthorized when the session may not, on an object or on everything."""
        rights: Any = self.world.objects["AuthorizationManager"]
        assert self.session is not None  # noqa: S101 - nobody gets here without one
        target = reference if reference is not None else self.world.objects["group-d1"].ref
        if not rights.allows(self.session, target, privilege):
            raise failed("Unauthorized", f"The privilege {privilege} is missing on {target._moId}.")


class Service:
    """A service: subclasses name their stub class and have one method for each operation."""

    stub: ClassVar[Any] = None
    anonymous: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, world: "World") -> None:
        self.world = world


class _NoConnector:
    """Stubs are made only to read their tables; nothing is ever sent."""

    class connector:
        @staticmethod
        def get_api_provider() -> None:
            return None


class Operation:
    """One operation: its types and its REST form."""

    def __init__(self, service: Service, name: str, info: dict[str, Any], rest: Any) -> None:
        self.service = service
        self.name = name
        self.input_type = info["input_type"]
        self.output_type = info["output_type"]
        self.rest = rest


class Automation(ApiProvider):  # type: ignore[misc]
    """All services of a world."""

    def __init__(self, world: "World", services: list[Service]) -> None:
        ApiProvider.__init__(self)
        self.world = world
        self.operations: dict[tuple[str, str], Operation] = {}
        for service in services:
            table = service.stub(_NoConnector)
            service_id = table._iface_id.get_name()
            for name, info in table._operations.items():
                self.operations[service_id, name] = Operation(service, name, info, table._rest_metadata.get(name))
        self._json = JsonApiHandler(self, [])

    def json_rpc(self, body: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        """The answer to a JSON-RPC request, with its headers. Raises AnswerLost."""
        answer, answer_headers = self._json.handle_request(body, headers)
        return answer, answer_headers

    def invoke(self, service_id: str, operation_id: str, input_value: Any, ctx: Any) -> Any:
        """The runtime's JSON-RPC handler calls this."""
        with self.world.lock:
            manager: Any = self.world.objects["SessionManager"]
            security = ctx.security_context
            session, credentials = None, None
            if security is not None:
                scheme = security.get("schemeId")
                if scheme == "com.vmware.vapi.std.security.session_id":
                    session = manager.find(security.get("sessionId"))
                elif scheme == "com.vmware.vapi.std.security.user_pass":
                    credentials = (security.get("userName"), security.get("password"))
        return self.run(service_id, operation_id, input_value, Caller(self.world, session, credentials))

    def run(self, service_id: str, operation_id: str, input_value: Any, caller: Caller, mode: Any = None) -> Any:
        """Converts the input, calls the operation under the lock, converts the result; errors become results.

        Raises AnswerLost when a test wants the answer lost.
        """
        try:
            operation = self.operations.get((service_id, operation_id))
            handler = getattr(operation.service, operation_id, None) if operation is not None else None
            if operation is None or handler is None:
                raise failed("OperationNotFound", f"The simulated vCenter has no {service_id}.{operation_id}.")
            if caller.session is None and operation_id not in operation.service.anonymous:
                raise failed("Unauthenticated", "This method requires authentication.")
            name = f"{service_id}.{operation_id}"
            self.world.control.before_method(name, name)
            try:
                arguments = TypeConverter.convert_to_python(input_value, operation.input_type, None, mode)
            except CoreException as error:
                raise failed("InvalidArgument", str(error)) from None
            with self.world.lock:
                result = handler(caller, **arguments)
            self.world.control.after_method(name, name)
            return MethodResult(output=TypeConverter.convert_to_vapi(result, operation.output_type, mode))
        except VapiError as error:
            kind = error.__class__.get_binding_type()
            return MethodResult(error=TypeConverter.convert_to_vapi(error, kind))
        except AnswerLost:
            raise
        except MethodFault as fault:
            return _error_result(_as_error(fault))
        except Exception as error:
            _log.exception("a service failed")
            return _error_result(failed("InternalServerError", repr(error)))


def _error_result(error: Any) -> Any:
    return MethodResult(error=TypeConverter.convert_to_vapi(error, error.__class__.get_binding_type()))


def _as_error(fault: Any) -> Any:
    """A fault of the SOAP half as an error of this one."""
    kinds = {
        vim.fault.NotFound: "NotFound",
        vim.fault.InvalidLogin: "Unauthenticated",
        vim.fault.NoPermission: "Unauthorized",
        vim.fault.DuplicateName: "AlreadyExists",
        vim.fault.InvalidPowerState: "NotAllowedInCurrentState",
    }
    kind = next((name for cls, name in kinds.items() if isinstance(fault, cls)), "Error")
    return failed(kind, fault.msg or fault._wsdlName)


def basic_credentials(header: str) -> tuple[str, str] | None:
    """Name and password of an Authorization header."""
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(value).decode().partition(":")
    except ValueError:
        return None
    return name, password


@functools.cache
def canonical(name: str) -> str:
    """``usedByEntity`` as ``used_by_entity``."""
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name)
