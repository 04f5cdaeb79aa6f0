"""SOAP to Python values, driven by pyVmomi's type tables.

Reads what any vSphere client sends: prefixes and namespaces are theirs to choose, fields come in any order, and what a
type does not have is refused by name (vmodl.fault.InvalidRequest), as vCenter does.
"""

import base64
import binascii
from typing import Any
from xml.etree import ElementTree

from pyVmomi import Iso8601

from .api import MethodFault, fields, support, vmodl

_XSI_TYPE = f"{{{support.XMLNS_XSI}}}type"
_SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"


class Malformed(Exception):
    """The message is not one this API has; its text says where."""


def local(tag: str) -> str:
    """A tag without its namespace."""
    return tag.rpartition("}")[2]


def parse(body: bytes) -> Any:
    """The element inside soap:Body: its tag is the method. Raises Malformed; document types are refused unread."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise Malformed("document type declarations are not accepted")
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - entities are refused above
    except ElementTree.ParseError as error:
        raise Malformed(f"not well-formed XML: {error}") from None
    found = root.find(f"{_SOAP}Body") if root.tag == f"{_SOAP}Envelope" else None
    if found is None or not len(found):
        raise Malformed("no SOAP 1.1 body")
    return found[0]


def decode(element: Any, declared: Any) -> Any:
    """The value of one element whose declared type is ``declared``; xsi:type may narrow it."""
    given = element.get(_XSI_TYPE)
    cls = declared
    if given is not None and declared is not type and declared is not support.ManagedMethod:
        cls = _named(given.rpartition(":")[2])
    if cls is object:
        raise Malformed(f"<{local(element.tag)}> may hold any type and names none (xsi:type)")
    if cls is support.ManagedMethod or cls is support.PropertyPath or cls is type:
        return _name_value(element.text or "", cls)
    if issubclass(cls, list):
        made = cls()
        made.extend(decode(child, cls.Item) for child in element)
        return made
    if issubclass(cls, support.ManagedObject):
        return _reference(element)
    if issubclass(cls, MethodFault):
        return _fault(element)
    if issubclass(cls, support.DataObject):
        return _data(element, cls)
    return _scalar(element.text or "", cls, local(element.tag))


def arguments(element: Any, params: Any) -> dict[str, Any]:
    """Parameter name to value of a method element, ``_this`` excluded; unset ones are None or an empty array."""
    infos = {info.name: info for info in params}
    made: dict[str, Any] = {name: (info.type() if _is_array(info.type) else None) for name, info in infos.items()}
    for child in element:
        name = local(child.tag)
        if name == "_this":
            continue
        info = infos.get(name)
        if info is None:
            raise Malformed(f"<{local(element.tag)}> has no parameter {name}")
        _assign(made, name, info.type, child)
    for name, info in infos.items():
        if made[name] is None and not info.flags & support.F_OPTIONAL and info.type is not object:
            raise Malformed(f"<{local(element.tag)}> needs the parameter {name}")
    return made


def target(element: Any) -> Any:
    """The reference in ``_this``: the object whose method is called."""
    for child in element:
        if local(child.tag) == "_this":
            return _reference(child)
    raise Malformed(f"<{local(element.tag)}> names no object (_this)")


def _is_array(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, list)


def _assign(made: dict[str, Any], name: str, declared: Any, child: Any) -> None:
    if not _is_array(declared):
        made[name] = decode(child, declared)
        return
    given = child.get(_XSI_TYPE)
    if given is not None and _is_array(_named(given.rpartition(":")[2])):
        made[name].extend(decode(child, declared))
    else:
        made[name].append(decode(child, declared.Item))


def _data(element: Any, cls: Any) -> Any:
    infos = fields(cls)
    values: dict[str, Any] = {name: info.type() for name, info in infos.items() if _is_array(info.type)}
    for child in element:
        name = local(child.tag)
        info = infos.get(name)
        if info is None:
            raise Malformed(f"{cls._wsdlName} has no field {name}")
        _assign(values, name, info.type, child)
    try:
        return cls(**values)
    except TypeError as error:
        raise Malformed(f"{cls._wsdlName}: {error}") from None


def _fault(element: Any) -> Any:
    message = None
    inner = element
    for child in element:
        if local(child.tag) == "fault":
            inner = child
        elif local(child.tag) == "localizedMessage":
            message = child.text
    given = inner.get(_XSI_TYPE)
    cls = _named(given.rpartition(":")[2]) if given else MethodFault
    fault = _data(inner, cls) if inner is not element or given else MethodFault()
    fault.msg = message
    return fault


def _reference(element: Any) -> Any:
    kind = element.get("type")
    moid = (element.text or "").strip()
    if not kind or not moid:
        raise Malformed(f"<{local(element.tag)}> is no managed object reference")
    cls = _named(kind.rpartition(":")[2])
    if not (isinstance(cls, type) and issubclass(cls, support.ManagedObject)):
        raise Malformed(f"{kind} is not a managed object type")
    return cls(moid)


def _named(name: str) -> Any:
    if name.endswith("ManagedObjectReference"):
        name = name.removesuffix("Reference")
    for namespace in (support.XMLNS_VMODL_BASE, support.XMLNS_XSD):
        try:
            return support.GetWsdlType(namespace, name)
        except KeyError:
            continue
    raise Malformed(f"there is no type {name}")


def _name_value(text: str, cls: Any) -> Any:
    if cls is support.PropertyPath:
        return support.PropertyPath(text)
    if cls is type:
        return _named(text.rpartition(":")[2])
    try:
        return support.GuessWsdlMethod(text)
    except KeyError:
        raise Malformed(f"there is no method {text}") from None


def _scalar(text: str, cls: Any, tag: str) -> Any:
    try:
        if cls is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
        if issubclass(cls, str):
            return cls(text)
        if issubclass(cls, bytes):
            return cls(base64.b64decode(text, validate=False))
        if cls.__name__ == "datetime":
            moment = Iso8601.ParseISO8601(text.strip())
            if moment is None:
                raise ValueError(text)
            return moment
        return cls(text.strip())
    except (ValueError, KeyError, binascii.Error, ArithmeticError):
        raise Malformed(f"<{tag}>: {text[:40]!r} is no {cls.__name__}") from None


def invalid_request(message: str) -> Any:
    """The fault for a message that does not parse."""
    return vmodl.fault.InvalidRequest(msg=message)
