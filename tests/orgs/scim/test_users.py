"""People of a directory: how they come, change, are stopped and leave, and what stays out of a directory's reach."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.test import Client
from django.utils import timezone
from pytest_django.plugin import DjangoDbBlocker

from orgs import access
from orgs.models import ApiKey, AuditEvent, Membership, Organization, User
from orgs.permissions import RoleName
from orgs.scim_models import DirectoryUser
from orgs.services.freezing import freeze_organization
from orgs.services.keys import create_api_key
from orgs.services.members import add_member, grant_role, suspend_member
from orgs.services.tokens import create_token, token_of
from tests.actors import World, make_user, operator
from tests.orgs.scim.directory import USER, Caller, connect, domain_of, nodes_of

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def directory(lasting_world: World, django_db_blocker: DjangoDbBlocker) -> Caller:
    with django_db_blocker.unblock():
        return connect(lasting_world)


@pytest.fixture
def world(lasting_world: World, directory: Caller, db: None) -> World:
    return deepcopy(lasting_world)


@pytest.fixture
def scim(world: World, directory: Caller) -> Caller:
    return directory


def at(world: World, name: str = "ada") -> str:
    return f"{name}@{domain_of(world.acme)}"


def test_a_new_person_gets_an_account_and_a_membership(world: World, scim: Caller) -> None:
    name = {"givenName": "Ada", "familyName": "Byron"}
    emails = [{"value": at(world), "type": "work", "primary": True}]
    made = scim.user(at(world), externalId="00u1", displayName="Ada Byron", name=name, emails=emails)
    user = User.objects.get(email=at(world))
    assert (made.status, made["userName"], made["externalId"], made["active"]) == (201, at(world), "00u1", True)
    assert (made["name"], made["emails"], made["schemas"]) == (name, emails, [USER])
    assert made["meta"]["location"] == made.headers["location"] == f"http://testserver/scim/v2/Users/{made['id']}"
    assert (user.name, user.has_usable_password(), nodes_of(user, world.acme)) == ("Ada Byron", False, {world.root.name: True})
    assert EmailAddress.objects.filter(user=user, verified=True, primary=True).exists()
    assert scim("GET", f"Users/{made['id']}").json == made.json


def test_its_trail_names_the_token_and_nobody(world: World, scim: Caller) -> None:
    scim.user(at(world))
    events = AuditEvent.objects.filter(organization=world.acme, after__by="Provisioning (SCIM)")
    assert set(events.values_list("action", flat=True)) == {"directory.user_created", "member.added"}
    assert set(events.values_list("actor", flat=True)) == {None}


def test_who_belongs_already_is_matched_whatever_the_domain(world: World, scim: Caller) -> None:
    made = scim.user(world.mia.email.upper(), displayName="Somebody else")
    assert made.status == 201
    assert nodes_of(world.mia, world.acme) == {"gateway": True, world.root.name: True}
    world.mia.refresh_from_db()
    assert world.mia.name == "Mia"


@pytest.mark.parametrize("address", ["{charlie}", "new@other.test", "new@sub.{domain}", "new@{domain}.evil.test", "no address"])
def test_an_address_of_no_verified_domain_is_out_of_reach(world: World, scim: Caller, address: str) -> None:
    before = User.objects.count()
    asked = scim.user(address.format(charlie=world.charlie.email, domain=domain_of(world.acme)))
    assert asked.error == (400, "invalidValue")
    assert (User.objects.count(), DirectoryUser.objects.filter(organization=world.acme).count()) == (before, 0)
    assert nodes_of(world.charlie, world.acme) == {}


def test_an_account_in_ones_own_domain_is_joined_as_it_is(world: World, scim: Caller) -> None:
    mine = make_user(at(world, "lou"), name="Lou", password="correct horse")
    EmailAddress.objects.create(user=mine, email=mine.email, primary=True, verified=True)
    made = scim.user(at(world, "lou"), displayName="Renamed", password="taken over", active=True)
    scim.patch(f"Users/{made['id']}", {"op": "replace", "path": "displayName", "value": "Renamed again"})
    mine.refresh_from_db()
    assert (mine.name, mine.check_password("correct horse")) == ("Lou", True)
    assert nodes_of(mine, world.acme) == {world.root.name: True}


def test_whoever_made_an_account_with_an_address_nobody_confirmed_has_no_part_in_what_it_is_given(
    world: World, scim: Caller
) -> None:
    squatted = make_user(at(world, "boss"), password="a squatter's password")
    EmailAddress.objects.create(user=squatted, email=squatted.email)
    EmailAddress.objects.create(user=squatted, email=f"squatter@{world.acme.slug}.example", primary=True, verified=True)
    ends = timezone.now() + timedelta(days=1)
    _, token = create_token(squatted, name="for later", scopes=["members:write"], expires_at=ends)
    squatter = Client()
    squatter.force_login(squatted)
    squatter.get("/")

    assert scim.user(squatted.email).status == 201

    assert nodes_of(squatted, world.acme) == {world.root.name: True}
    assert not User.objects.get(pk=squatted.pk).has_usable_password()
    kept = EmailAddress.objects.filter(user=squatted).values_list("email", "primary", "verified")
    assert list(kept) == [(squatted.email, True, True)]
    assert token_of(token) is None
    assert squatter.get("/").headers["location"].startswith("/accounts/login/")


def test_an_operators_account_is_nobodys_to_take_over(world: World, scim: Caller) -> None:
    """Such an account is made by a command, which confirms no address."""
    chief = User.objects.create_superuser(at(world, "chief"), "the operator's own")
    Authenticator.objects.create(user=chief, type=Authenticator.Type.TOTP, data={"secret": "x"})
    assert scim.user(chief.email).status == 201
    chief.refresh_from_db()
    assert (chief.check_password("the operator's own"), Authenticator.objects.filter(user=chief).count()) == (True, 1)
    assert nodes_of(chief, world.acme) == {world.root.name: True}


def test_the_account_of_whoever_became_an_operator_follows_its_directory_no_longer(world: World, scim: Caller) -> None:
    made = scim.user(at(world), displayName="Ada")
    User.objects.filter(email=at(world)).update(is_staff=True)
    scim.patch(f"Users/{made['id']}", {"op": "replace", "path": "userName", "value": at(world, "eve")})
    scim.patch(f"Users/{made['id']}", {"op": "replace", "path": "displayName", "value": "Eve"})
    assert list(User.objects.filter(email__in=[at(world), at(world, "eve")]).values_list("email", "name")) == [(at(world), "Ada")]


def test_a_further_address_of_another_account_is_out_of_reach(world: World, scim: Caller) -> None:
    EmailAddress.objects.create(user=world.charlie, email=at(world, "alias"), verified=True)
    assert scim.user(at(world, "alias")).error == (400, "invalidValue")
    assert not User.objects.filter(email=at(world, "alias")).exists()


def test_the_same_person_comes_once(world: World, scim: Caller) -> None:
    scim.user(at(world))
    assert scim.user(at(world).upper()).error == (409, "uniqueness")
    emails = [{"value": at(world), "primary": True}]
    assert scim.user("ada", emails=emails).error == (409, "uniqueness")
    assert DirectoryUser.objects.filter(organization=world.acme).count() == 1


def test_a_user_name_that_is_no_address_signs_in_by_the_primary_one(world: World, scim: Caller) -> None:
    made = scim.user("ada", emails=[{"value": "private@elsewhere.test"}, {"value": at(world), "primary": True}])
    assert (made.status, made["userName"]) == (201, "ada")
    assert User.objects.filter(email=at(world)).exists()


def test_whom_an_admin_suspended_no_directory_brings_back(world: World, scim: Caller) -> None:
    held = Membership.objects.get(user=world.mia, group=world.gateway)
    made = scim.user(world.mia.email)
    suspend_member(held, by=world.actor("alice"))
    for active in (False, True):
        scim.patch(f"Users/{made['id']}", {"op": "replace", "path": "active", "value": active})
    assert nodes_of(world.mia, world.acme) == {"gateway": False, world.root.name: True}


def test_who_comes_inactive_is_suspended_from_the_start(world: World, scim: Caller) -> None:
    made = scim.user(at(world), active=False)
    assert (made["active"], nodes_of(User.objects.get(email=at(world)), world.acme)) == (False, {world.root.name: False})


def test_a_deleted_person_leaves_the_organisation_with_keys_and_roles_and_keeps_the_account(world: World, scim: Caller) -> None:
    add_member(world.sam, group=world.other.root, by=world.actor("charlie"))
    made = scim.user(world.sam.email)
    key, _ = create_api_key(world.platform, name="Sam's", member=world.sam, by=world.actor("sam"))
    assert scim("DELETE", f"Users/{made['id']}").status == 204
    assert (nodes_of(world.sam, world.acme), nodes_of(world.sam, world.other)) == ({}, {world.other.name: True})
    assert not world.sam.grants.filter(organization=world.acme).exists()
    assert ApiKey.objects.get(pk=key.pk).revoked_at
    assert scim("GET", f"Users/{made['id']}").error == (404, None)
    assert scim("DELETE", f"Users/{made['id']}").status == 404
    assert User.objects.get(pk=world.sam.pk).is_active


def test_the_last_super_admin_cannot_be_taken_away(world: World, scim: Caller) -> None:
    made = scim.user(world.alice.email)
    assert scim.patch(f"Users/{made['id']}", {"op": "replace", "path": "active", "value": False}).error == (400, "invalidValue")
    assert scim("DELETE", f"Users/{made['id']}").error == (400, "invalidValue")
    assert world.actor("alice").can_anywhere is not None
    assert world.actor("alice").role_label == "Super Admin"
    grant_role(world.sam, role=RoleName.ADMIN, group=world.root, by=world.actor("alice"))
    assert scim("DELETE", f"Users/{made['id']}").status == 204


def test_only_an_account_made_for_the_directory_follows_its_name(world: World, scim: Caller) -> None:
    made = scim.user(at(world), displayName="Ada")
    rename = {"op": "Replace", "path": "displayName", "value": "Ada Lovelace"}
    scim.patch(f"Users/{made['id']}", rename)
    ada = User.objects.get(email=at(world))
    assert ada.name == "Ada Lovelace"
    add_member(ada, group=world.other.root, by=world.actor("charlie"))
    scim.patch(f"Users/{made['id']}", {**rename, "value": "Renamed"})
    ada.refresh_from_db()
    assert (ada.name, scim("GET", f"Users/{made['id']}")["displayName"]) == ("Ada Lovelace", "Renamed")


def test_entras_patch_of_many_parts_is_understood(world: World, scim: Caller) -> None:
    made = scim.user(at(world), emails=[{"value": at(world), "type": "work", "primary": True}])
    extension = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
    patched = scim.patch(
        f"Users/{made['id']}",
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "work@x.test"},
        {"op": "Add", "path": 'emails[type eq "home"].value', "value": "home@x.test"},
        {"op": "Replace", "path": "name.givenName", "value": "Ada"},
        {"op": "Add", "path": f"{extension}:department", "value": "Mathematics"},
        {"op": "Replace", "path": "externalId", "value": "58"},
        {"op": "Replace", "value": {"name.familyName": "Byron"}},
    )
    assert patched["name"] == {"givenName": "Ada", "familyName": "Byron"}
    assert [email["value"] for email in patched["emails"]] == ["work@x.test", "home@x.test"]
    assert (patched["externalId"], extension in patched.json) == ("58", False)
    assert patched.json == scim("GET", f"Users/{made['id']}").json
    removed = scim.patch(
        f"Users/{made['id']}", {"op": "remove", "path": 'emails[type eq "home"]'}, {"op": "remove", "path": "name"}
    )
    assert (len(removed["emails"]), "name" in removed.json) == (1, False)


def test_oktas_put_of_everything_is_understood(world: World, scim: Caller) -> None:
    made = scim.user(at(world), displayName="Ada", externalId="1")
    put = scim(
        "PUT", f"Users/{made['id']}", {**made.json, "locale": "en-US", "groups": [], "displayName": "Ada B", "externalId": None}
    )
    assert (put.status, put["displayName"], "externalId" in put.json) == (200, "Ada B", False)


@pytest.mark.parametrize(
    ("operation", "scim_type"),
    [
        ({"op": "replace", "path": "userName", "value": "other@x.test"}, "invalidValue"),
        ({"op": "replace", "path": "userName", "value": "x" * 256}, "invalidValue"),
        ({"op": "remove", "path": "userName"}, "mutability"),
        ({"op": "replace", "path": "id", "value": "7"}, "mutability"),
        ({"op": "replace", "path": "active", "value": "perhaps"}, "invalidValue"),
        ({"op": "replace", "path": "active", "value": [1]}, "invalidValue"),
        ({"op": "replace", "path": "emails", "value": "text"}, "invalidValue"),
        ({"op": "replace", "path": "displayName", "value": "x" * 256}, "invalidValue"),
        ({"op": "replace", "path": "displayName", "value": "\0"}, "invalidValue"),
        ({"op": "replace", "path": "name[", "value": "x"}, "invalidPath"),
        ({"op": "copy", "path": "displayName", "value": "x"}, "invalidValue"),
        ({"op": "remove"}, "noTarget"),
    ],
)
def test_a_bad_change_is_refused_and_changes_nothing(
    world: World, scim: Caller, operation: dict[str, Any], scim_type: str
) -> None:
    made = scim.user(at(world), displayName="Ada")
    assert scim.patch(f"Users/{made['id']}", operation).error == (400, scim_type)
    assert scim("GET", f"Users/{made['id']}").json == made.json


# --- another user name ------------------------------------------------------------------------
def renamed(world: World, scim: Caller, made: Any, to: str, *, put: bool = False) -> Any:
    if put:
        return scim("PUT", f"Users/{made['id']}", {**made.json, "userName": to})
    return scim.patch(f"Users/{made['id']}", {"op": "replace", "path": "userName", "value": to})


@pytest.mark.parametrize("put", [False, True], ids=["patch", "put"])
def test_an_account_made_for_the_directory_follows_its_address(world: World, scim: Caller, put: bool) -> None:
    made = scim.user(at(world))
    user = User.objects.get(email=at(world))
    user.set_password("a password of her own")
    user.save()
    answer = renamed(world, scim, made, at(world, "Ada.Byron"), put=put)
    assert (answer.status, answer["userName"], answer["id"]) == (200, at(world, "Ada.Byron"), made["id"])
    user.refresh_from_db()
    addresses = EmailAddress.objects.filter(user=user).values_list("email", "verified", "primary")
    assert (user.email, list(addresses)) == (at(world, "ada.byron"), [(at(world, "ada.byron"), True, True)])
    assert (user.check_password("a password of her own"), nodes_of(user, world.acme)) == (True, {world.root.name: True})
    assert scim("GET", "Users", filter=f'userName eq "{at(world, "ada.byron")}"')["totalResults"] == 1
    event = AuditEvent.objects.get(organization=world.acme, action="directory.address_changed")
    assert (event.before, event.after["email"]) == ({"email": at(world)}, at(world, "ada.byron"))
    # Who gets the address that is free now is somebody else.
    assert scim.user(at(world)).status == 201
    assert User.objects.get(email=at(world)) != user


def test_an_account_that_was_there_or_belongs_elsewhere_keeps_its_address(world: World, scim: Caller) -> None:
    theirs, both = scim.user(world.mia.email), scim.user(at(world, "both"))
    account = User.objects.get(email=at(world, "both"))
    add_member(account, group=world.other.root, by=world.actor("charlie"))
    for made, name, email in ((theirs, "mia", world.mia.email), (both, "other", account.email)):
        assert renamed(world, scim, made, at(world, name))["userName"] == at(world, name)
        assert User.objects.filter(email=email).exists()
        assert not User.objects.filter(email=at(world, name)).exists()


def test_an_address_that_the_person_chose_itself_stays(world: World, scim: Caller) -> None:
    made = scim.user(at(world))
    User.objects.filter(email=at(world)).update(email="own@home.test")
    assert renamed(world, scim, made, at(world, "byron")).status == 200
    assert User.objects.filter(email="own@home.test").exists()


def test_another_name_that_is_no_address_changes_none(world: World, scim: Caller) -> None:
    emails = [{"value": at(world), "primary": True}]
    made = scim.user("ada", emails=emails)
    assert renamed(world, scim, made, "ada.b")["userName"] == "ada.b"
    assert User.objects.filter(email=at(world)).exists()
    moved = [{"value": at(world, "byron"), "primary": True}]
    assert scim.patch(f"Users/{made['id']}", {"op": "replace", "path": "emails", "value": moved}).status == 200
    assert User.objects.filter(email=at(world, "byron")).exists()


def test_a_name_or_an_address_of_somebody_else_is_refused_and_changes_nothing(world: World, scim: Caller) -> None:
    made, second = scim.user(at(world)), scim.user(at(world, "second"))
    outsider = make_user(at(world, "outsider"), name="Out")
    further = make_user("further@home.test", name="Far")
    EmailAddress.objects.create(user=further, email=at(world, "further"), verified=True)
    for to, status, scim_type in (
        (second["userName"].upper(), 409, "uniqueness"),
        (outsider.email, 409, "uniqueness"),
        (at(world, "further"), 400, "invalidValue"),
        ("ada@elsewhere.test", 400, "invalidValue"),
    ):
        assert renamed(world, scim, made, to).error == (status, scim_type)
    assert scim("GET", f"Users/{made['id']}").json == made.json
    assert User.objects.filter(email=at(world)).exists()


# --- who may be a stranger ----------------------------------------------------------------------
def test_a_member_whose_address_nobody_has_confirmed_is_handed_over_to_its_owner(world: World, scim: Caller) -> None:
    """An invitation's link lets in whoever has it, under any address."""
    stranger = make_user(at(world), name="Stranger")
    stranger.set_password("a stranger's")
    stranger.save()
    EmailAddress.objects.filter(user=stranger).update(verified=False)
    add_member(stranger, group=world.gateway, by=world.actor("alice"))
    _, text = create_token(stranger, name="t", scopes=["keys:read"], expires_at=timezone.now() + timedelta(days=1))
    assert scim.user(at(world)).status == 201
    stranger.refresh_from_db()
    assert (stranger.has_usable_password(), token_of(text)) == (False, None)
    assert EmailAddress.objects.filter(user=stranger, verified=True).exists()
    assert nodes_of(stranger, world.acme) == {"gateway": True, world.root.name: True}


def test_a_member_who_has_confirmed_its_address_is_joined_as_it_is(world: World, scim: Caller) -> None:
    member = make_user(at(world), name="Member")
    member.set_password("its own")
    member.save()
    EmailAddress.objects.update_or_create(user=member, email=at(world), defaults={"verified": True, "primary": True})
    add_member(member, group=world.gateway, by=world.actor("alice"))
    assert scim.user(at(world), displayName="Other").status == 201
    member.refresh_from_db()
    assert (member.check_password("its own"), member.name) == (True, "Member")


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "7", '{"userName": "x"}', '{"schemas": ["' + USER + '"]}', "\ud800"])
def test_a_body_that_is_none_is_refused(world: World, scim: Caller, body: str) -> None:
    for method, path in (("POST", "Users"), ("POST", "Groups")):
        status, _ = scim(method, path, body.encode("utf-8", "replace").decode()).error
        assert status == 400


@pytest.mark.parametrize("resource_id", ["0", "-1", "9" * 30, "x", "%00", "²"])
def test_an_id_that_was_never_given_is_absent(world: World, scim: Caller, resource_id: str) -> None:
    for kind in ("Users", "Groups"):
        assert scim("GET", f"{kind}/{resource_id}").error == (404, None)


@pytest.mark.parametrize("path", ["", "Devices", "Users%0A/x", "Users/1%0A/x", "%0A"])
def test_an_address_that_is_none_is_told_as_a_directory_reads_it(scim: Caller, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert scim(method, path).error == (404, None)


def test_another_organisations_people_are_absent(world: World, scim: Caller) -> None:
    theirs = connect(world, organization="other", owner="charlie")
    made = theirs.user(world.charlie.email)
    for method, body in (("GET", None), ("DELETE", None), ("PUT", made.json)):
        assert scim(method, f"Users/{made['id']}", body).error == (404, None)
    assert scim.patch(f"Users/{made['id']}", {"op": "replace", "path": "active", "value": False}).status == 404
    assert scim("GET", "Users")["totalResults"] == 0
    assert scim.group("Ours", made["id"]).error == (400, "invalidValue")
    assert nodes_of(world.charlie, world.other) == {world.other.name: True}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ('userName eq "ADA@{domain}"', 1),
        ('externalId eq "e1"', 1),
        ('externalId eq "E1"', 0),
        ('userName eq "ada@{domain}" and active eq true', 1),
        ('userName eq "ada@{domain}" and active eq false', 0),
        ('displayName sw "a" or displayName co "RACE"', 2),
        ('not (externalId eq "e1")', 1),
        ('emails[type eq "work" and value eq "ada@{domain}"]', 1),
        ('emails.value ew "{domain}"', 2),
        ("externalId pr", 1),
        ("active pr", 2),
        ('userName ne "ada@{domain}"', 1),
        ('id eq "x"', 0),
        ('name.givenName eq "Ada"', 1),
    ],
)
def test_people_are_found(world: World, scim: Caller, wanted: str, found: int) -> None:
    scim.user(at(world), externalId="e1", displayName="Ada", name={"givenName": "Ada"})
    scim.user(at(world, "grace"), displayName="Grace")
    answer = scim("GET", "Users", filter=wanted.format(domain=domain_of(world.acme)))
    assert (answer.status, answer["totalResults"]) == (200, found)


@pytest.mark.parametrize(
    "wanted",
    ["userName", 'userName eq "', "nope eq 1", 'userName gt "a"', 'emails[display eq "x"]', 'meta.created gt "2020"', "a" * 9000],
)
def test_a_filter_that_is_none_is_refused(world: World, scim: Caller, wanted: str) -> None:
    assert scim("GET", "Users", filter=wanted).error == (400, "invalidFilter")


def test_lists_have_pages_counted_from_one(world: World, scim: Caller) -> None:
    names = [at(world, f"person{number}") for number in range(5)]
    for name in names:
        scim.user(name)
    pages = [scim("GET", "Users", startIndex=start, count=2) for start in (1, 3, 5, 7, -4)]
    assert [[one["userName"] for one in page.json.get("Resources", [])] for page in pages] == [
        names[:2],
        names[2:4],
        names[4:],
        [],
        names[:2],
    ]
    assert {page["totalResults"] for page in pages} == {5}
    nothing = scim("GET", "Users", count=0)
    assert (nothing["totalResults"], nothing["itemsPerPage"], nothing.json.get("Resources", [])) == (5, 0, [])
    assert scim("GET", "Users", startIndex="x").status == 400
    slim = scim("GET", "Users", attributes="userName")["Resources"][0]
    assert set(slim) == {"schemas", "id", "userName"}


def test_a_search_may_come_as_a_body(world: World, scim: Caller) -> None:
    scim.user(at(world))
    body = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
        "filter": f'userName eq "{at(world)}"',
        "count": 1,
    }
    assert scim("POST", "Users/.search", body)["totalResults"] == 1
    group = {**body, "filter": 'displayName eq "x"', "excludedAttributes": ["members"]}
    assert scim("POST", "Groups/.search", group)["totalResults"] == 0
    assert scim("POST", "Users/.search", {**body, "filter": "nope"}).error == (400, "invalidFilter")


def test_a_page_of_people_costs_few_queries(world: World, scim: Caller, django_assert_max_num_queries: Any) -> None:
    for number in range(4):
        scim.user(at(world, f"person{number}"))
    with django_assert_max_num_queries(6):
        scim("GET", "Users")


def test_a_frozen_organisation_answers_nobody(world: World, scim: Caller) -> None:
    freeze_organization(world.acme, reason="unpaid", by=operator())
    assert scim("GET", "Users").error == (403, None)
    assert scim.user(at(world)).status == 403
    assert Organization.objects.get(pk=world.acme.pk).frozen_at


@pytest.mark.parametrize("token", ["", "x", "gh_scim_" + "a" * 43, "gh_sk_abcdef123456_" + "x" * 43, "\0"])
def test_without_its_token_nothing_opens(world: World, scim: Caller, token: str) -> None:
    refused = Caller(token)("GET", "Users")
    assert (refused.error, refused.headers["www-authenticate"]) == ((401, None), 'Bearer realm="scim"')


def test_other_methods_are_told_which_there_are(scim: Caller) -> None:
    assert scim("DELETE", "Users").error == (405, None)
    assert scim("POST", "Schemas", {}).error == (405, None)
    assert access.KEY.fullmatch(scim.token) is None
