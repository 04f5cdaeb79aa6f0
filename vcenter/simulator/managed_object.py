"""What every simulated managed object shares: identity, properties, and the table of its methods.

A subclass names its pyVmomi type in ``kind``, keeps plain properties in ``values``, marks properties that follow from
others with ``@derived``, and marks its methods, which carry the WSDL names of vSphere's API, with ``@method``.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from .api import fields, methods, vmodl

if TYPE_CHECKING:
    from .session_manager import Session
    from .world import World


class Call:
    """One call of one client: who calls, in which API version, and with what result type."""

    def __init__(self, world: "World", session: "Session | None", version: str) -> None:
        self.world = world
        self.session = session
        self.version = version
        self.new_session: Session | None = None
        self.address = ""
        self.agent = ""
        self.base_url = ""

    @property
    def user(self) -> str:
        """The name the caller logged in with."""
        return self.session.user_name if self.session is not None else ""


def method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a handler: its name is the WSDL name of a method of the class's kind."""
    function.is_method = True  # type: ignore[attr-defined]
    return function


def derived(*sources: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Marks a function as the property of its name, worked out anew only after one of ``sources`` has changed."""

    def mark(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        function.derived_from = sources  # type: ignore[attr-defined]
        return function

    return mark


class Managed:
    """A managed object on the server's side."""

    kind: ClassVar[Any] = None
    owner: "Managed | None" = None
    handlers: ClassVar[dict[str, str]] = {}
    derivations: ClassVar[dict[str, Callable[[Any], Any]]] = {}
    dependents: ClassVar[dict[str, tuple[str, ...]]] = {}
    live_properties: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.handlers, cls.derivations = {}, {}
        dependents: dict[str, list[str]] = {}
        for base in reversed(cls.__mro__):
            for name, member in vars(base).items():
                if getattr(member, "is_method", False):
                    cls.handlers[name] = name
                sources = getattr(member, "derived_from", None)
                if sources is not None:
                    cls.derivations[name] = member
                    for source in sources:
                        dependents.setdefault(source, []).append(name)
        cls.dependents = {source: tuple(dict.fromkeys(names)) for source, names in dependents.items()}
        if cls.kind is not None:
            unknown = sorted(set(cls.handlers) - set(methods(cls.kind)) - {"Fetch"})
            unknown += sorted(set(cls.derivations) - set(fields(cls.kind)))
            if unknown:
                raise TypeError(f"{cls.kind._wsdlName} has no {', '.join(unknown)}")

    def __init__(self, world: "World", moid: str | None = None, **values: Any) -> None:
        self.world = world
        self.moid = moid or world.new_id(self.kind._wsdlName)
        self.ref = self.kind(self.moid)
        self.values: dict[str, Any] = values
        self.stamps: dict[str, int] = {}
        self._worked_out: dict[str, Any] = {}
        self.gone = False
        world.add(self)
        self.version = world.version

    def __repr__(self) -> str:
        return f"<{self.kind._wsdlName} {self.moid}>"

    def get(self, name: str) -> Any:
        """A property's value, None or an empty array when it is unset.

        Raises vmodl.query.InvalidProperty for a name its type does not have.
        """
        if name in self.live_properties:
            return self._typed(name, self.live(name))
        if name in self.derivations:
            if name not in self._worked_out:
                self._worked_out[name] = self._typed(name, self.derivations[name](self))
            return self._worked_out[name]
        value = self.values.get(name)
        if value is None and name not in fields(self.kind):
            raise vmodl.query.InvalidProperty(name=name, msg=f"{self.kind._wsdlName} has no property {name}")
        if value.__class__ is list:
            value = self.values[name] = self._typed(name, value)
        return value

    def live(self, name: str) -> Any:
        """The value of one of ``live_properties``: worked out each time it is asked for."""
        raise NotImplementedError(f"{self.kind._wsdlName}.{name}")

    def _typed(self, name: str, value: Any) -> Any:
        return fields(self.kind)[name].type(value) if value.__class__ is list else value

    def set(self, name: str, value: Any) -> None:
        """Changes a property and all that is derived from it; waiting clients hear of it."""
        self.values[name] = value
        self._spread(name)

    def set_quietly(self, name: str, value: Any) -> None:
        """Sets a property while the world is built, before anyone can be waiting."""
        self.values[name] = value
        for other in self.dependents.get(name, ()):
            self._worked_out.pop(other, None)

    def changed(self, name: str) -> None:
        """Says that a derived property may have a new value because something outside this object changed."""
        self._spread(name)

    def _spread(self, name: str) -> None:
        self._worked_out.pop(name, None)
        self.world.touch(self, name)
        for other in self.dependents.get(name, ()):
            self._spread(other)

    @method
    def Fetch(self, call: Call, prop: str) -> Any:
        """The accessor behind ``object.property`` in pyVmomi: not in the published API, but clients use it."""
        return self.get(prop)


def as_array(values: Any, declared: Any) -> Any:
    """A plain list as the typed array of the wire."""
    made = declared()
    made.extend(values)
    return made


def not_supported(message: str) -> Any:
    """The fault for what real servers do and this one does not."""
    return vmodl.fault.NotSupported(msg=message)


def invalid_argument(name: str, message: str) -> Any:
    """The fault for a parameter that makes no sense."""
    return vmodl.fault.InvalidArgument(
        invalidProperty=name, msg=f"A specified parameter was not correct: {name}. {message}"
    )


def localized(message: str, key: str = "gpuferry.simulator") -> Any:
    """A message as faults and events carry it."""
    return vmodl.LocalizableMessage(key=key, message=message)
