"""The forms of administration: settings, groups, tokens, tickets, vCenters, host keys."""

from __future__ import annotations

from dataclasses import replace

from textual.screen import ModalScreen

from tui.calls import Call, Document, at, change, remove
from tui.dialogs.confirm import ConfirmDialog
from tui.dialogs.form import CallForm, Field, Form, Values, filled
from tui.dialogs.secret import SecretForm
from tui.provisioning import add_vcenter

ABOUT = {
    "settings": "What the site wants. Values that differ from their default are bold; e changes one.",
    "groups": "Clients that share quotas, weight and priority. Weight: its share when the queue is long.",
    "tokens": "What people and tools show to the REST API: read sees, client leases, operator runs, admin does all.",
    "enrolments": "Tickets with which a daemon or an agent enrols, once. A ticket is shown only when it is made.",
    "vcenters": "Passwords are sealed with the appliance's own key and never shown again.",
    "host-keys": "Compare the fingerprint with the machine's own (ssh-keygen -lf), then confirm it: runs wait for it.",
    "certificates": "The site's own authority, which clients trust, and the certificate of the REST API under it.",
}

QUOTAS = (
    Field("weight", "Weight", "real", 1.0, least=0.002, most=1000, needed=True),
    Field("priority", "Priority", "number", 0, least=-1000, most=1000, needed=True),
    Field("max_gpus", "Most GPU slices", "number", None, least=0, most=2**31 - 1, hint="empty: unlimited"),
    Field("max_memory_mib", "Most memory, MiB", "number", None, least=0, most=2**31 - 1, hint="empty: unlimited"),
    Field("max_leases", "Most leases", "number", None, least=0, most=2**31 - 1, hint="empty: unlimited"),
    Field("max_lease_s", "Longest lease, s", "number", None, least=1, most=31_536_000, hint="empty: the site's"),
    Field("idle_after_s", "Idle time-out, s", "number", None, least=1, most=31_536_000, hint="empty: the site's"),
)


def with_defaults(fields: tuple[Field, ...], document: Document) -> tuple[Field, ...]:
    """The fields filled with what a document has now."""
    return tuple(replace(each, default=document[each.name]) for each in fields)


def edit(room: str, document: Document, about: Document) -> Form | None:
    """The form that changes a document; None where there is none."""
    if room == "settings":
        return edit_setting(document, about)
    if room == "groups":
        fields = (Field("name", "Name", default=document["name"], needed=True), *with_defaults(QUOTAS, document))
        path = at("groups", document["id"])
        intro = "Leases that are held stay; what waits is placed by the new numbers."
        return CallForm(f"Group {document['name']}", intro, fields, "Change", lambda v: change(document, path, v))
    if room == "vcenters":
        fields = (
            Field("name", "Name", default=document["name"], needed=True),
            Field("address", "Address", default=document["address"], needed=True),
            Field("username", "User", default=document["username"], needed=True),
            Field("password", "New password", "password", hint="empty: it stays"),
            Field("fingerprint", "SHA-256 of its certificate", default=document["fingerprint"]),
        )
        path = at("vcenters", document["id"])
        return CallForm(
            f"vCenter {document['name']}",
            "",
            fields,
            "Change",
            lambda values: change(document, path, {**filled(values), "fingerprint": values["fingerprint"]}),
            "admin",
        )
    return None


def edit_setting(document: Document, about: Document) -> Form:
    """One setting, with the bounds that the appliance itself states."""
    name = document["name"]
    if "enum" in about:
        field = Field(
            name, "Value", "choice", document["value"], tuple((str(each), each) for each in about["enum"]), needed=True
        )
    elif about.get("type") in ("number", "integer"):
        kind = "number" if about["type"] == "integer" else "real"
        field = Field(
            name,
            "Value",
            kind,
            document["value"],
            least=about.get("minimum"),
            most=about.get("maximum"),
            hint=f"default: {document['default']}",
        )
    elif isinstance(document["value"], bool):
        field = Field(name, "Value", "switch", document["value"])
    else:
        secret = "password" in name or name.endswith("_key")
        field = Field(name, "Value", "password" if secret else "text", "" if secret else document["value"])

    def make(values: Values) -> Call:
        value = values[name]
        wanted = None if value is None or (value == "" and document["default"] is not None) else value
        return Call("PATCH", "/v1/settings", body={name: wanted}, match="*")

    intro = f"{about.get('description', '')}\nEmpty takes it back to its default, {document['default']}."
    return CallForm(f"Setting {name.replace('_', ' ')}", intro, (field,), "Change", make, "admin")


def new(room: str) -> Form | None:
    """The form that makes something; None where nothing can be made."""
    if room == "groups":
        fields = (Field("name", "Name", needed=True), *QUOTAS)
        intro = "Clients enrol into a group, or are moved into it in the tab Leases, Clients."
        return CallForm(
            "New group", intro, fields, "Make it", lambda values: Call("POST", "/v1/groups", body=filled(values))
        )
    if room == "tokens":
        return new_token()
    if room == "enrolments":
        return new_ticket()
    return add_vcenter() if room == "vcenters" else None


def new_token() -> Form:
    fields = (
        Field("name", "Name", hint="who or what it is for", needed=True),
        Field(
            "scope",
            "Scope",
            "choice",
            "read",
            (
                ("read: sees everything but secrets", "read"),
                ("operator: leases, servers, clients, groups, runs", "operator"),
                ("admin: everything", "admin"),
                ("client: the leases of one client", "client"),
            ),
            needed=True,
        ),
        Field("client", "Client", hint="with scope client: its id"),
        Field("hours", "Valid for, hours", "real", 24 * 90, least=0.1, most=8760, hint="empty: for ever"),
    )

    def make(values: Values) -> Call:
        body = filled({"name": values["name"], "scope": values["scope"], "client": values["client"]})
        if values["hours"]:
            body["valid_s"] = int(values["hours"] * 3600)
        command = f"gpuferry appliance token --scope {values['scope']} --name '{values['name']}'"
        return Call("POST", "/v1/tokens", body=body, command=command)

    return SecretForm("New token", "It is shown once, when it is made.", fields, "Make it", make, "token")


def new_ticket() -> Form:
    fields = (
        Field(
            "role",
            "For a",
            "choice",
            "client",
            (("client: a VM whose programs use GPUs", "client"), ("server: a GPU server's daemon", "server")),
            needed=True,
        ),
        Field("name", "Name", hint="empty: the one the machine asks for"),
        Field("group", "Group", hint="of a client; empty: default"),
        Field("hours", "Valid for, hours", "real", 1, least=0.02, most=168, needed=True),
    )

    def make(values: Values) -> Call:
        body = filled({key: values[key] for key in ("role", "name", "group")})
        body["valid_s"] = max(60, int((values["hours"] or 1) * 3600))
        return Call("POST", "/v1/enrolments", body=body, command=f"gpuferry appliance token --enrol {values['role']}")

    intro = "Give the ticket to the machine: gpuferry enrol TICKET (a server: gpuferry enrol --as server TICKET)."
    return SecretForm("New enrolment ticket", intro, fields, "Make it", make, "ticket")


def remove_dialog(room: str, document: Document) -> ModalScreen[bool] | None:
    """Asks whether something shall go."""
    name = document.get("name") or document.get("target", "")
    text, label = {
        "groups": (f"The group {name} is removed. It must have no clients.", "Remove"),
        "tokens": (f"The token {name} is revoked: whoever uses it gets nowhere any more.", "Revoke"),
        "vcenters": (f"The vCenter {name} is forgotten here; nothing changes in vCenter itself.", "Forget"),
        "host-keys": (f"The key of {name} is forgotten; the next one is shown for confirmation.", "Forget"),
    }[room]
    if room == "tokens" and document["revoked_at"]:
        return None
    call = remove(document, at(room, document["id"]))
    return ConfirmDialog(label, text, [call], label, danger=True)


def confirm_key(document: Document) -> ModalScreen[bool]:
    """Asks whether a machine's key is the one that was compared."""
    text = (
        f"{document['target']} shows this key:\n\n    {document['fingerprint']}\n\nCompare it with what the machine "
        "says (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub). Runs that wait for it go on."
    )
    body = {"fingerprint": document["fingerprint"]}
    command = f"gpuferry runs confirm-key {document['id']} --fingerprint {document['fingerprint']}"
    call = Call("POST", at("host-keys", document["id"], "confirm"), body=body, command=command)
    return ConfirmDialog("Trust a host key", text, [call], "It is the same: trust it")
