"""AuthorizationManager: roles, permissions on entities, and the question every call is asked: may this user?

Permissions are inherited downwards when they propagate; the nearest one above an entity decides, as in vCenter. Objects
that are no entities (a host's passthrough system, a task) belong to one or to the root folder.
"""

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .api import support, vim
from .managed_object import Call, Managed, derived, invalid_argument, method
from .values import build
from .world import World

if TYPE_CHECKING:
    from .session_manager import Session

ADMINISTRATOR_ROLE = -1
READ_ONLY_ROLE = -2
_SYSTEM = ("System.Anonymous", "System.View", "System.Read")

# Privileges no method of pyVmomi's tables names by itself: those that depend on what a specification changes.
_BY_SPECIFICATION = (
    "VirtualMachine.Config.AddExistingDisk",
    "VirtualMachine.Config.AddNewDisk",
    "VirtualMachine.Config.AddRemoveDevice",
    "VirtualMachine.Config.AdvancedConfig",
    "VirtualMachine.Config.Annotation",
    "VirtualMachine.Config.CPUCount",
    "VirtualMachine.Config.EditDevice",
    "VirtualMachine.Config.HostUSBDevice",
    "VirtualMachine.Config.Memory",
    "VirtualMachine.Config.RawDevice",
    "VirtualMachine.Config.RemoveDisk",
    "VirtualMachine.Config.Rename",
    "VirtualMachine.Config.Resource",
    "VirtualMachine.Config.Settings",
    "VirtualMachine.Config.UpgradeVirtualHardware",
    "VirtualMachine.Inventory.CreateFromExisting",
    "VirtualMachine.Inventory.Delete",
    "VirtualMachine.Provisioning.Clone",
    "VirtualMachine.Provisioning.CloneTemplate",
    "VirtualMachine.Provisioning.DeployTemplate",
    "VApp.Import",
    "Datastore.AllocateSpace",
    "Network.Assign",
    "Folder.Rename",
    "Global.LogEvent",
    "Global.CancelTask",
    "Global.SetCustomField",
    "Global.ManageCustomFields",
    "InventoryService.Tagging.AttachTag",
    "InventoryService.Tagging.ObjectAttachable",
    "InventoryService.Tagging.CreateCategory",
    "InventoryService.Tagging.CreateTag",
    "InventoryService.Tagging.DeleteCategory",
    "InventoryService.Tagging.DeleteTag",
    "InventoryService.Tagging.EditCategory",
    "InventoryService.Tagging.EditTag",
    "ContentLibrary.CreateLocalLibrary",
    "ContentLibrary.DeleteLocalLibrary",
    "ContentLibrary.AddLibraryItem",
    "ContentLibrary.DeleteLibraryItem",
    "ContentLibrary.UpdateLibraryItem",
    "ContentLibrary.UpdateSession",
    "ContentLibrary.ReadStorage",
)


@functools.cache
def all_privileges() -> tuple[str, ...]:
    """Every privilege that a method or parameter of pyVmomi's tables needs, and those that specifications need."""
    found = set(_BY_SPECIFICATION) | set(_SYSTEM)
    for name in support.ListManagedTypes():
        if not name.startswith("vim."):
            continue
        definition = support._managedDefMap[name]
        for entry in definition[4] or ():
            found.add(entry[4])
        for _, _, _, params, _, privilege, _ in definition[5] or ():
            found.add(privilege)
            found.update(param[4] for param in params)
    return tuple(sorted(each for each in found if each))


class AuthorizationManager(Managed):
    """Roles and permissions."""

    kind = vim.AuthorizationManager

    def __init__(self, world: World) -> None:
        super().__init__(world, "AuthorizationManager")
        every = all_privileges()
        self.roles: dict[int, tuple[str, tuple[str, ...]]] = {
            ADMINISTRATOR_ROLE: ("Admin", every),
            READ_ONLY_ROLE: ("ReadOnly", _SYSTEM),
            -3: ("View", ("System.Anonymous", "System.View")),
            -4: ("Anonymous", ("System.Anonymous",)),
            -5: ("NoAccess", ()),
        }
        self.permissions: list[Any] = []
        self._next_role = 100
        self._known: dict[tuple[str, str], frozenset[str]] = {}

    def grant(self, user: str, entity: Any, role: int, propagate: bool = True) -> None:
        """Gives ``user`` a role on an entity, replacing what it had there."""
        self._drop(user, entity._moId)
        self.permissions.append(
            build(
                vim.AuthorizationManager.Permission,
                entity=entity,
                principal=user,
                group=False,
                roleId=role,
                propagate=propagate,
            )
        )
        self._changed()

    def define_role(self, name: str, privileges: Iterable[str]) -> int:
        """A new role; the system privileges are part of every role."""
        self._next_role += 1
        self.roles[self._next_role] = (name, tuple(sorted({*privileges, *_SYSTEM})))
        self._changed()
        return self._next_role

    def _drop(self, user: str, moid: str) -> None:
        self.permissions = [
            each for each in self.permissions if each.entity._moId != moid or each.principal.lower() != user.lower()
        ]

    def _changed(self) -> None:
        self._known.clear()
        self.changed("roleList")
        sessions: Any = self.world.objects.get("SessionManager")
        for session in sessions.sessions.values() if sessions is not None else ():
            session.unrestricted = self.is_administrator(session.user_name)

    def is_administrator(self, user: str) -> bool:
        """Whether nothing needs to be asked for this user: administrator at the root, and no other permission."""
        held = [each for each in self.permissions if each.principal.lower() == user.lower()]
        return len(held) == 1 and held[0].roleId == ADMINISTRATOR_ROLE and held[0].entity._moId == "group-d1"

    def privileges(self, user: str, reference: Any) -> frozenset[str]:
        """What a user may do on an object."""
        asked = (user.lower(), self._entity(reference))
        if asked not in self._known:
            self._known[asked] = self._inherited(*asked)
        return self._known[asked]

    def _inherited(self, user: str, moid: str) -> frozenset[str]:
        at: str | None = moid
        while at is not None:
            for each in self.permissions:
                if each.entity._moId == at and each.principal.lower() == user and (at == moid or each.propagate):
                    return frozenset(self.roles[each.roleId][1])
            managed = self.world.objects.get(at)
            parent = managed.get("parent") if managed is not None and "parent" in managed.values else None
            at = parent._moId if parent is not None else None
        return frozenset()

    def _entity(self, reference: Any) -> str:
        managed = self.world.objects.get(reference._moId)
        while managed is not None:
            if isinstance(managed.ref, vim.ManagedEntity):
                return managed.moid
            managed = managed.owner
        return "group-d1"

    def allows(self, session: "Session", reference: Any, privilege: str) -> bool:
        """Whether a session may."""
        if session.unrestricted:
            return True
        held = self.privileges(session.user_name, reference)
        if privilege in held:
            return True
        if privilege not in _SYSTEM:
            return False
        # What is no entity of its own (views, collectors, the managers) is open to everyone who may log in,
        # and the way down to a permitted object is visible.
        if self._entity(reference) == "group-d1" and not isinstance(reference, vim.ManagedEntity):
            return True
        return privilege == "System.View" and self._leads_to_permitted(session.user_name, reference)

    def _leads_to_permitted(self, user: str, reference: Any) -> bool:
        for each in self.permissions:
            if each.principal.lower() != user.lower() or not self.roles[each.roleId][1]:
                continue
            managed = self.world.objects.get(each.entity._moId)
            while managed is not None:
                if managed.moid == reference._moId:
                    return True
                parent = managed.values.get("parent")
                managed = self.world.objects.get(parent._moId) if parent is not None else None
        return False

    def demand(self, session: "Session", reference: Any, privilege: str) -> None:
        """Raises vim.fault.NoPermission, which names the object and the privilege, when the session may not."""
        if not self.allows(session, reference, privilege):
            raise vim.fault.NoPermission(
                object=reference, privilegeId=privilege, msg="Permission to perform this operation was denied."
            )

    @derived("roles")
    def roleList(self) -> Any:
        """All roles."""
        return [self._role(role_id) for role_id in self.roles]

    def _role(self, role_id: int) -> Any:
        name, privileges = self.roles[role_id]
        return build(
            vim.AuthorizationManager.Role,
            roleId=role_id,
            system=role_id < 0,
            name=name,
            info=build(vim.Description, label=name, summary=name),
            privilege=list(privileges),
        )

    @derived("roles")
    def privilegeList(self) -> Any:
        """All privileges."""
        return [
            build(
                vim.AuthorizationManager.Privilege,
                privId=each,
                onParent=False,
                name=each.rpartition(".")[2],
                privGroupName=each.rpartition(".")[0],
            )
            for each in all_privileges()
        ]

    @method
    def AddAuthorizationRole(self, call: Call, name: str, privIds: Any) -> int:
        """A new role."""
        if any(held == name for held, _ in self.roles.values()):
            raise vim.fault.AlreadyExists(name=name, msg=f"The role {name} exists already")
        unknown = set(privIds) - set(all_privileges())
        if unknown:
            raise invalid_argument("privIds", f"There is no privilege {min(unknown)}.")
        return self.define_role(name, privIds)

    @method
    def RemoveAuthorizationRole(self, call: Call, roleId: int, failIfUsed: bool) -> None:
        """Removes a role and, if allowed, the permissions that use it."""
        if roleId not in self.roles or roleId < 0:
            raise vim.fault.NotFound(msg=f"There is no role {roleId} that could be removed")
        if any(each.roleId == roleId for each in self.permissions):
            if failIfUsed:
                raise vim.fault.RemoveFailed(msg="The role is in use")
            self.permissions = [each for each in self.permissions if each.roleId != roleId]
        del self.roles[roleId]
        self._changed()

    @method
    def UpdateAuthorizationRole(self, call: Call, roleId: int, newName: str, privIds: Any) -> None:
        """Renames a role and replaces its privileges."""
        if roleId not in self.roles or roleId < 0:
            raise vim.fault.NotFound(msg=f"There is no role {roleId} that could be changed")
        self.roles[roleId] = (newName, tuple(sorted({*privIds, *_SYSTEM})))
        self._changed()

    @method
    def RetrieveRolePermissions(self, call: Call, roleId: int) -> Any:
        """Permissions that use a role."""
        return [each for each in self.permissions if each.roleId == roleId]

    @method
    def RetrieveAllPermissions(self, call: Call) -> Any:
        """All permissions."""
        return list(self.permissions)

    @method
    def RetrieveEntityPermissions(self, call: Call, entity: Any, inherited: bool) -> Any:
        """Permissions on an entity, with those from above when asked."""
        found = []
        at: Any = entity
        while at is not None:
            found += [
                each for each in self.permissions if each.entity._moId == at._moId and (at is entity or each.propagate)
            ]
            at = self.world.find(at).values.get("parent") if inherited else None
        return found

    @method
    def SetEntityPermissions(self, call: Call, entity: Any, permission: Any) -> None:
        """Grants roles on an entity."""
        for each in permission:
            if each.roleId not in self.roles:
                raise vim.fault.NotFound(msg=f"There is no role {each.roleId}")
            self.grant(each.principal, entity, each.roleId, each.propagate)

    @method
    def RemoveEntityPermission(self, call: Call, entity: Any, user: str, isGroup: bool) -> None:
        """Takes a permission back."""
        before = len(self.permissions)
        self._drop(user, entity._moId)
        if len(self.permissions) == before:
            raise vim.fault.NotFound(msg=f"{user} has no permission on {entity._moId}")
        self._changed()

    @method
    def HasPrivilegeOnEntities(self, call: Call, entity: Any, sessionId: str, privId: Any) -> Any:
        """Which of some privileges a session has on each of some entities."""
        sessions: Any = self.world.objects["SessionManager"]
        session = next((each for each in sessions.sessions.values() if each.key == sessionId), None)
        if session is None:
            raise vim.fault.NotFound(msg="There is no such session")
        return self._table(session.user_name, entity, privId)

    @method
    def HasUserPrivilegeOnEntities(self, call: Call, entities: Any, userName: str, privId: Any) -> Any:
        """Which of some privileges a user has on each of some entities."""
        return self._table(userName, entities, privId)

    def _table(self, user: str, entities: Any, privileges: Any) -> Any:
        return [
            build(
                vim.AuthorizationManager.EntityPrivilege,
                entity=entity,
                privAvailability=[
                    build(
                        vim.AuthorizationManager.PrivilegeAvailability,
                        privId=each,
                        isGranted=each in self.privileges(user, entity),
                    )
                    for each in privileges
                ],
            )
            for entity in entities
        ]

    @method
    def FetchUserPrivilegeOnEntities(self, call: Call, entities: Any, userName: str) -> Any:
        """Everything a user may do on each of some entities."""
        return [
            build(
                vim.AuthorizationManager.UserPrivilegeResult,
                entity=entity,
                privileges=sorted(self.privileges(userName, entity)),
            )
            for entity in entities
        ]
