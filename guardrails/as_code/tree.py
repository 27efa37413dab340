"""An organisation's settings, its groups, and what stands in them: roles and applications."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from guardrails.as_code.declarations import (
    ROOT,
    ApplicationDeclaration,
    Declaration,
    GroupDeclaration,
    OrganizationDeclaration,
    RoleDeclaration,
)
from guardrails.as_code.faults import Several
from guardrails.as_code.kinds import Entry, Kind, given
from orgs.actor import ABOVE, LINEAGE, Actor
from orgs.errors import Refused
from orgs.models import Application, Group, Organization, Role
from orgs.permissions import Permission
from orgs.selectors import unarchived
from orgs.services.applications import change_application, create_application, slug_of
from orgs.services.changes import called, one_line
from orgs.services.groups import change_group, create_group
from orgs.services.organizations import Settings, change_settings
from orgs.services.roles import GRANTABLE, change_role, create_role

SETTINGS = tuple(Settings.__annotations__)


class OrganizationKind(Kind[OrganizationDeclaration, Organization]):
    word, section, form = "organisation", "organization", OrganizationDeclaration

    def found(self) -> Iterable[Organization]:
        return [self.by.organization]

    def read(self, row: Organization) -> OrganizationDeclaration:
        settings = {field: getattr(row, field) for field in SETTINGS}
        return OrganizationDeclaration(slug=row.slug, **settings, **_about(row.root))

    def key(self, declared: OrganizationDeclaration) -> str:
        return declared.slug

    def change(self, row: Organization, wanted: dict[str, Any]) -> Organization:
        settings: Any = {field: value for field, value in wanted.items() if field in SETTINGS}
        about = {field: value for field, value in wanted.items() if field not in SETTINGS}
        if settings:
            row = change_settings(row, by=self.by, **settings)
        if about:
            change_group(row.root, by=self.by, **_with_owner(self, about))
        return row

    def title(self, row: Organization) -> str:
        return row.slug

    def entries(self, file: Declaration) -> Iterator[Entry[OrganizationDeclaration]]:
        """The one that is being applied to, whichever the file names."""
        yield Entry(self.section, self.by.organization.slug, file.organization)


class GroupKind(Kind[GroupDeclaration, Group]):
    """Below the root, parents first. A group's key is its path, in large or small letters, so to a file a group that is called
    otherwise or moved is another one."""

    word, section, form = "group", "groups", GroupDeclaration

    def __init__(self, by: Actor) -> None:
        self.root = by.organization.root
        # Paths of parents by paths, as the file has them.
        self.above: dict[str, str] = {}
        super().__init__(by)

    def found(self) -> Iterable[Group]:
        groups = Group.objects.filter(unarchived(), organization=self.by.organization).exclude(parent=None)
        return list(groups.select_related(ABOVE, "owner").order_by("lft"))

    def key_of(self, row: Group) -> str:
        return key_of_path(path_of(row))

    def read(self, row: Group) -> GroupDeclaration:
        return GroupDeclaration(name=row.name, **_about(row))

    def create(self, entry: Entry[GroupDeclaration]) -> Group:
        name = one_line(entry.declared.name)
        parent = self.named(self.above[entry.key])
        archived = called(name, below=parent).exclude(archived_at=None).select_related(ABOVE).first()
        if archived:
            raise Refused(f"“{path_of(archived)}” is archived: bring it back in the console first.", field="name")
        return create_group(parent, by=self.by, **_with_owner(self, given(entry.declared)))

    def change(self, row: Group, wanted: dict[str, Any]) -> Group:
        return change_group(row, by=self.by, **_with_owner(self, wanted))

    def title(self, row: Group) -> str:
        return path_of(row)

    def entries(self, file: Declaration) -> Iterator[Entry[GroupDeclaration]]:
        listed = file.groups
        return self._below("groups", "", [] if isinstance(listed, UnsetType) else listed)

    def _below(self, where: str, path: str, listed: Sequence[GroupDeclaration]) -> Iterator[Entry[GroupDeclaration]]:
        for index, declared in enumerate(listed):
            here, key = f"{where}[{index}]", f"{path}{key_of_path(declared.name)}"
            self.above[key] = path.removesuffix(" / ") or ROOT
            yield Entry(here, key, declared)
            yield from self._below(f"{here}.children", f"{key} / ", declared.children)

    def nested(self) -> list[GroupDeclaration]:
        """As the file has them."""
        tree: dict[str, GroupDeclaration] = {ROOT: GroupDeclaration(name=ROOT)}
        for path, row in self.rows.items():
            tree[path] = self.read(row)
            tree[key_of_path(path_of(row.path()[-2]))].children.append(tree[path])
        return tree[ROOT].children

    def named(self, path: str | UnsetType, *, field: str = "group") -> Group:
        """The one of this path; without one the root. Raises Refused, Follows."""
        if isinstance(path, UnsetType) or path == ROOT:
            return self.root
        found = self.made(key_of_path(path))
        if found is None:
            raise Refused(f"There is no group “{path[:300]}”. Write its path, such as “Engineering / Platform”.", field=field)
        return found


class RoleKind(Kind[RoleDeclaration, Role]):
    word, section, form = "role", "roles", RoleDeclaration

    def __init__(self, by: Actor, groups: GroupKind) -> None:
        self.groups = groups
        super().__init__(by)

    def found(self) -> Iterable[Role]:
        roles = Role.objects.filter(unarchived(field="group"), organization=self.by.organization)
        return roles.select_related(LINEAGE).order_by("name")

    def read(self, row: Role) -> RoleDeclaration:
        permissions, group = list(row.permissions), path_of(row.group)
        return RoleDeclaration(name=row.name, group=group, description=row.description, permissions=permissions)

    def key(self, declared: RoleDeclaration) -> str:
        return one_line(declared.name).lower()

    def create(self, entry: Entry[RoleDeclaration]) -> Role:
        values = given(entry.declared)
        named = _permissions(values.pop("permissions", []))
        return create_role(self.groups.named(values.pop("group", UNSET)), permissions=named, by=self.by, **values)

    def change(self, row: Role, wanted: dict[str, Any]) -> Role:
        if self.groups.named(wanted.pop("group", path_of(row.group))) != row.group:
            raise Refused(f"A role stays where it was made: {path_of(row.group)}.", field="group")
        values = {"name": row.name, "description": row.description, **wanted}
        named = _permissions(values.pop("permissions", row.permissions))
        return change_role(row, permissions=named, by=self.by, **values)


class ApplicationKind(Kind[ApplicationDeclaration, Application]):
    word, section, form = "application", "applications", ApplicationDeclaration

    def __init__(self, by: Actor, groups: GroupKind) -> None:
        self.groups = groups
        super().__init__(by)

    def found(self) -> Iterable[Application]:
        open_ones = Application.objects.filter(unarchived(field="group"), archived_at=None, organization=self.by.organization)
        return open_ones.select_related("owner", LINEAGE).order_by("slug")

    def read(self, row: Application) -> ApplicationDeclaration:
        return ApplicationDeclaration(
            name=row.name,
            slug=row.slug,
            group=path_of(row.group),
            features=list(row.features),
            environments=list(row.environments),
            cost_center=row.cost_center,
            owner=row.owner.email if row.owner else None,
        )

    def key(self, declared: ApplicationDeclaration) -> str:
        slug = slug_of(declared.name) if isinstance(declared.slug, UnsetType) else declared.slug
        if not slug:
            raise Refused("Give its address: none can be made of this name.", field="slug")
        return slug

    def create(self, entry: Entry[ApplicationDeclaration]) -> Application:
        if Application.objects.filter(organization=self.by.organization, slug=entry.key).exists():
            raise Refused(f"“{entry.key}”, or the group that it stands in, is archived: bring it back in the console first.")
        values = _with_owner(self, given(entry.declared))
        return create_application(self.groups.named(values.pop("group", UNSET)), slug=entry.key, by=self.by, **values)

    def change(self, row: Application, wanted: dict[str, Any]) -> Application:
        if "group" in wanted:
            wanted["group"] = self.groups.named(wanted["group"])
        return change_application(row, by=self.by, **_with_owner(self, wanted))

    def title(self, row: Application) -> str:
        return row.slug


def path_of(group: Group) -> str:
    """Load its path."""
    return ROOT if group.parent is None else group.words()


def key_of_path(path: str) -> str:
    """What a group is known by in a file."""
    return one_line(path).lower()


def _about(group: Group) -> dict[str, Any]:
    return {"kind": group.kind, "cost_center": group.cost_center, "owner": group.owner.email if group.owner else None}


def _with_owner(kind: Kind[Any, Any], values: dict[str, Any]) -> dict[str, Any]:
    """With the person in place of the address."""
    return {**values, "owner": kind.person(values["owner"])} if "owner" in values else values


def _permissions(names: Iterable[str]) -> list[Permission]:
    known = {permission.value: permission for permission in Permission if permission in GRANTABLE}
    wrong = [
        Refused(f"There is no permission “{name[:40]}”. There are {', '.join(known)}.", field=f"permissions[{index}]")
        for index, name in enumerate(names)
        if name not in known
    ]
    if wrong:
        raise Several(wrong)
    return [known[name] for name in names]
