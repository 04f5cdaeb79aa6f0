"""One SOAP request in, one SOAP answer out: decode, check the session and privileges, call the handler, encode.

Which privilege a method or a parameter needs is read from pyVmomi's tables (``privId``), so a login with fewer rights
fails here exactly where vCenter's own tables say it must.
"""

import logging
import traceback
from typing import Any

from . import soap_decode
from .api import NAMESPACE, MethodFault, methods, support, vim, vmodl
from .control import AnswerLost
from .managed_object import Call, Managed
from .soap_encode import Write, encoder, escape
from .world import World

_log = logging.getLogger(__name__)

_ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<soapenv:Envelope xmlns:soapenc="http://schemas.xmlsoap.org/soap/encoding/" '
    'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n<soapenv:Body>\n'
)
_END = "\n</soapenv:Body>\n</soapenv:Envelope>"
_ANONYMOUS = "System.Anonymous"
_FETCH = support.Object(
    name="Fetch", wsdlName="Fetch", params=(support.Object(name="prop", type=str, flags=0, privId=None),), privId=None
)


def answer(call: Call, body: bytes) -> tuple[int, bytes]:
    """HTTP status and body of the answer to one request."""
    parts: list[str] = [_ENVELOPE]
    try:
        element = soap_decode.parse(body)
        name = soap_decode.local(element.tag)
        managed, info, arguments = _resolve(call, element, name)
        result = _invoke(call, managed, info, arguments)
        parts.append(f'<{name}Response xmlns="{NAMESPACE}">')
        _encode_result(call, parts.append, info, managed, arguments, result)
        parts.append(f"</{name}Response>")
        status = 200
    except soap_decode.Malformed as error:
        status = _fault(call, parts, soap_decode.invalid_request(str(error)))
    except MethodFault as fault:
        status = _fault(call, parts, fault)
    except AnswerLost:
        raise
    except Exception as error:
        _log.exception("a handler failed")
        reason = "".join(traceback.format_exception_only(error)).strip()
        status = _fault(call, parts, vmodl.fault.SystemError(reason=reason, msg=f"A general system error: {reason}"))
    parts.append(_END)
    return status, "".join(parts).encode()


def _resolve(call: Call, element: Any, name: str) -> tuple[Managed, Any, dict[str, Any]]:
    reference = soap_decode.target(element)
    world = call.world
    with world.lock:
        managed: Managed = world.find(reference)
    if name == "Fetch":
        return managed, _FETCH, soap_decode.arguments(element, _FETCH.params)
    info = methods(managed.kind).get(name)
    if info is None or not encoder(world.version_name).knows(info):
        raise vmodl.fault.MethodNotFound(
            receiver=reference, method=name, msg=f"{managed.kind._wsdlName} has no method {name}"
        )
    return managed, info, soap_decode.arguments(element, info.params)


def _invoke(call: Call, managed: Managed, info: Any, arguments: dict[str, Any]) -> Any:
    world = call.world
    name = info.wsdlName
    world.control.before_method(call, managed, name)
    with world.lock:
        _authorize(call, managed, info, arguments)
        handler = managed.handlers.get(name)
        if handler is None:
            raise vmodl.fault.NotSupported(msg=f"The simulated vCenter has no {managed.kind._wsdlName}.{name}")
        result = getattr(managed, handler)(call, **arguments)
    world.control.after_method(call, managed, name)
    return result


def _authorize(call: Call, managed: Managed, info: Any, arguments: dict[str, Any]) -> None:
    needed = info.privId
    if needed is None and info is _FETCH:
        known = support.GetPropertyInfo(managed.kind, arguments["prop"]) if arguments["prop"] else None
        needed = known.privId if known is not None else None
    if needed == _ANONYMOUS:
        return
    if call.session is None:
        raise vim.fault.NotAuthenticated(
            object=managed.ref, privilegeId=needed or "System.View", msg="The session is not authenticated."
        )
    if call.session.unrestricted:
        return
    rights = call.world.objects["AuthorizationManager"]
    rights.demand(call.session, managed.ref, needed or "System.View")  # type: ignore[attr-defined]
    for param in info.params:
        if param.privId:
            given = arguments[param.name]
            for each in given if isinstance(given, list) else [given]:
                if isinstance(each, support.ManagedObject):
                    rights.demand(call.session, each, param.privId)  # type: ignore[attr-defined]


def _encode_result(
    call: Call, write: Write, info: Any, managed: Managed, arguments: dict[str, Any], result: Any
) -> None:
    if result is None:
        return
    if info is _FETCH:
        declared = support.GetPropertyInfo(managed.kind, arguments["prop"]).type
    else:
        declared = vim.Task if info.isTask else info.result
    if declared is type(None):
        return
    encoder(call.version).element(write, "returnval", result, declared)


def _fault(call: Call, parts: list[str], fault: Any) -> int:
    del parts[1:]
    name = fault.__class__._wsdlName
    message = fault.msg or name
    parts.append(
        f"<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>{escape(message)}</faultstring><detail>"
    )
    details: list[str] = []
    encoder(call.version).fault_detail(details.append, f"{name}Fault", fault)
    text = "".join(details)
    head = f"<{name}Fault"
    parts.append(f'{head} xmlns="{NAMESPACE}"{text.removeprefix(head)}')
    parts.append("</detail></soapenv:Fault>")
    return 500


def request_version(world: World, soap_action: str) -> str:
    """The API version of a request, from its SOAPAction (``"urn:vim25/8.0.3.0"``), never newer than the server's."""
    wanted = soap_action.strip().strip('"').removeprefix("urn:")
    version = support.versionMap.get(wanted)
    if version is None or not support.IsChildVersion(world.version_name, version):
        return world.version_name
    return str(version)
