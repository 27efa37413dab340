"""Domains of an organisation: proven by a record that a real name server has, or by a code that was mailed."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from html import unescape

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries, Settings

from orgs.domain_proofs import PUBLIC_MAIL, clean_domain
from orgs.errors import Refused
from orgs.models import AuditEvent, User
from orgs.services import domains as services
from orgs.services.organizations import create_organization, create_personal_account
from orgs.sso.required import connection_for
from orgs.sso_models import Domain, SsoConnection
from orgs.tasks import recheck_domains
from tests.actors import World
from tests.orgs.name_server import NameServer
from tests.orgs.sso_world import browser, verified_domain


def a_name() -> str:
    return f"{secrets.token_hex(6)}.example"


def page_of(world: World) -> str:
    return f"/o/{world.acme.slug}/security/domains/"


def post(world: World, path: str = "", **form: str) -> str:
    """What the page says afterwards."""
    return unescape(browser(world.alice).post(page_of(world) + path, form, follow=True).content.decode())


def actions(world: World) -> list[str]:
    found = AuditEvent.objects.filter(organization=world.acme, action__startswith="domain.").order_by("pk")
    return list(found.values_list("action", flat=True))


# --- names -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Example.COM", "example.com"),
        (" mail.example.com. ", "mail.example.com"),
        ("@example.com", "example.com"),
        ("someone@example.com", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_a_name_is_kept_as_addresses_have_it(typed: str, name: str) -> None:
    assert clean_domain(typed) == name


@pytest.mark.parametrize(
    "typed",
    [
        *("", " ", "example", "example..com", ".example.com", "-a.com", "a_b.com", "https://example.com", "a/b.com", "a b.com"),
        *("10.0.0.1", "[::1]", "x" * 64 + ".com", "a." * 130 + "com", "host.local", "a.localhost", "hidden.onion", "a.internal"),
        *("gmail.com", "GMail.com.", "someone@outlook.com", "example.com\0", "exam\nple.com", "☃" * 70 + ".com"),
    ],
)
def test_what_is_no_name_or_nobodys_or_everybodys_is_refused(typed: str) -> None:
    with pytest.raises(Refused) as refusal:
        clean_domain(typed)
    assert refusal.value.field == "name"


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_refused(typed: str) -> None:
    try:
        name = clean_domain(typed)
    except Refused:
        return
    assert re.fullmatch(r"[a-z0-9.-]+", name)
    assert name == clean_domain(name)
    assert name not in PUBLIC_MAIL


# --- proofs ------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_domain_is_proven_by_its_record(world: World, names: NameServer) -> None:
    name = a_name()
    assert f"{name} is added" in post(world, name=name.upper())
    domain = Domain.objects.get(name=name)
    assert domain.txt_record in post(world)

    assert "was not found" in post(world, f"{domain.pk}/check/")
    names.records[name] = ["v=spf1 -all", f"gatehouse-verification={secrets.token_hex(16)}"]
    assert "was not found" in post(world, f"{domain.pk}/check/")
    names.failing = True
    assert "did not answer" in post(world, f"{domain.pk}/check/")
    names.failing = False
    names.records[name].append(domain.txt_record)
    assert f"{name} is verified" in post(world, f"{domain.pk}/check/")

    domain.refresh_from_db()
    assert (domain.proof, domain.verified_at is not None, domain.missing_since) == ("dns", True, None)
    assert actions(world) == ["domain.added", "domain.verified"]


@pytest.mark.django_db
def test_a_record_that_is_taken_away_is_told_and_one_that_comes_back_too(world: World, names: NameServer) -> None:
    domain = verified_domain(world.acme, world.alice)
    text = post(world, f"{domain.pk}/check/")
    assert "was not found" in text
    assert "Record missing" in text
    first = Domain.objects.get(pk=domain.pk).missing_since
    post(world, f"{domain.pk}/check/")
    assert Domain.objects.get(pk=domain.pk).missing_since == first is not None
    names.records[domain.name] = [domain.txt_record]
    assert "Record missing" not in post(world, f"{domain.pk}/check/")
    assert Domain.objects.get(pk=domain.pk).verified_at == domain.verified_at


def long_ago(domain: Domain, **days: int) -> None:
    moments = {field: timezone.now() - timedelta(days=count) for field, count in days.items()}
    Domain.objects.filter(pk=domain.pk).update(**moments)
    domain.refresh_from_db()


def looked_for(*domains: Domain) -> int:
    """How many of these the hourly run looks at."""
    turn = services.due(timezone.now()).filter(pk__in=[domain.pk for domain in domains]).count()
    assert recheck_domains() >= turn
    return turn


@pytest.mark.django_db
def test_a_record_that_stays_away_ends_the_proof_after_a_week_that_was_announced(world: World, names: NameServer) -> None:
    domain = verified_domain(world.acme, world.alice)
    settings = {"name": "Acme ID", "kind": SsoConnection.Kind.SAML, "group": world.field, "enabled": True}
    SsoConnection.objects.create(organization=world.acme, slug=domain.token[:16], created_by=world.alice, **settings)
    assert looked_for(domain) == 1
    assert looked_for(domain) == 0  # one hour later at the earliest
    assert "Put <code" in post(world)

    long_ago(domain, missing_since=6, checked_at=1)
    assert looked_for(domain) == 1
    long_ago(domain, missing_since=8, checked_at=1)
    names.failing = True
    assert looked_for(domain) == 1
    assert connection_for(f"mia@{domain.name}") is not None
    assert actions(world) == ["domain.record_missing"]

    names.failing = False
    assert looked_for(domain) == 1
    assert connection_for(f"mia@{domain.name}") is None
    assert "Its proof has lapsed" in post(world)
    assert actions(world) == ["domain.record_missing", "domain.proof_lapsed"]
    assert set(AuditEvent.objects.filter(organization=world.acme, object_type="domain").values_list("actor", flat=True)) == {None}

    names.records[domain.name] = [domain.txt_record]
    assert f"{domain} is verified" in post(world, f"{domain.pk}/check/")
    domain.refresh_from_db()
    assert (domain.proof, domain.missing_since) == ("dns", None)
    assert connection_for(f"mia@{domain.name}") is not None


@pytest.mark.django_db
def test_only_records_whose_turn_it_is_are_looked_for(world: World, names: NameServer) -> None:
    """What is there is noted and nothing else; a record that comes back is told."""
    there, back, mailed = (verified_domain(world.acme, world.alice) for _ in range(3))
    Domain.objects.filter(pk=mailed.pk).update(proof=Domain.Proof.EMAIL)
    services.add_domain(a_name(), by=world.actor("alice"))
    for domain in (there, back):
        names.records[domain.name] = [domain.txt_record]
        long_ago(domain, checked_at=2)
    long_ago(back, missing_since=3)
    assert looked_for(there, back, mailed) == 2
    assert looked_for(there, back, mailed) == 0
    assert not Domain.objects.filter(pk__in=(there.pk, back.pk), missing_since__isnull=False).exists()
    assert actions(world) == ["domain.added", "domain.record_found"]


@pytest.mark.django_db
def test_a_domain_belongs_to_one_organisation(world: World, names: NameServer) -> None:
    """Both may try; who proves it has it, and by the database whoever is first."""
    name = a_name()
    charlie = world.actor("charlie")
    theirs = services.add_domain(name, by=charlie)
    ours = services.add_domain(name, by=world.actor("alice"))
    names.records[name] = [theirs.txt_record, ours.txt_record]
    services.check_record(theirs, by=charlie)
    assert f"Another organisation here has verified {name}" in post(world, f"{ours.pk}/check/")
    with pytest.raises(IntegrityError), transaction.atomic():
        Domain.objects.filter(pk=ours.pk).update(verified_at=timezone.now())
    services.remove_domain(theirs, by=charlie)
    assert f"{name} is verified" in post(world, f"{ours.pk}/check/")


@pytest.mark.django_db
def test_a_domain_is_proven_by_a_code_to_its_postmaster(world: World) -> None:
    domain = services.add_domain(a_name(), by=world.actor("alice"))
    assert "on its way" in post(world, f"{domain.pk}/code/")
    [message] = mail.outbox
    assert message.to == [f"postmaster@{domain.name}"]
    [code] = re.findall(r"\d{4} \d{4}", str(message.body))
    assert code in str(message.alternatives[0][0])  # type: ignore[union-attr]
    wrong = "0000 0000" if code != "0000 0000" else "1111 1111"

    assert "4 more tries" in post(world, f"{domain.pk}/prove/", code=wrong)
    assert f"{domain.name} is verified" in post(world, f"{domain.pk}/prove/", code=f" {code} ")

    assert Domain.objects.get(pk=domain.pk).proof == "email"
    assert browser(world.alice).post(f"{page_of(world)}{domain.pk}/prove/", {"code": code}).status_code == 422
    assert code.replace(" ", "") not in str(list(AuditEvent.objects.filter(organization=world.acme).values_list("after")))


@pytest.mark.django_db
def test_a_code_is_guessed_five_times_and_lasts_a_day(world: World) -> None:
    domain = services.add_domain(a_name(), by=world.actor("alice"))
    post(world, f"{domain.pk}/code/")
    code = re.findall(r"\d{4} \d{4}", str(mail.outbox[0].body))[0]
    for _ in range(5):
        post(world, f"{domain.pk}/prove/", code="x")
    assert "No code is waiting" in post(world, f"{domain.pk}/prove/", code=code)
    post(world, f"{domain.pk}/code/")
    code = re.findall(r"\d{4} \d{4}", str(mail.outbox[1].body))[0]
    Domain.objects.filter(pk=domain.pk).update(code_sent_at=timezone.now() - timedelta(hours=24))
    assert "No code is waiting" in post(world, f"{domain.pk}/prove/", code=code)
    assert Domain.objects.get(pk=domain.pk).verified_at is None


@pytest.mark.django_db
def test_a_postmaster_is_written_to_a_few_times_a_day_whoever_asks(world: World) -> None:
    name = a_name()
    for _ in range(services.CODES_PER_DAY):
        domain = services.add_domain(name, by=world.actor("alice"))
        services.send_code(domain, by=world.actor("alice"))
        services.remove_domain(domain, by=world.actor("alice"))
    theirs = services.add_domain(name, by=world.actor("charlie"))
    with pytest.raises(Refused, match="codes today"):
        services.send_code(theirs, by=world.actor("charlie"))
    assert len(mail.outbox) == services.CODES_PER_DAY


@pytest.mark.django_db
def test_mail_that_cannot_be_sent_is_told(world: World, settings: Settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    domain = services.add_domain(a_name(), by=world.actor("alice"))
    assert "could not be sent" in post(world, f"{domain.pk}/code/")


# --- the page ----------------------------------------------------------------------------------
@pytest.mark.django_db
def test_what_was_typed_stays_and_nothing_is_added_twice(world: World) -> None:
    domain = services.add_domain(a_name(), by=world.actor("alice"))
    text = post(world, name=domain.name)
    assert "is here already" in text
    assert f'value="{domain.name}"' in text
    assert Domain.objects.filter(organization=world.acme).count() == 1


@pytest.mark.django_db
def test_a_domain_is_removed_and_the_loss_is_named_before(world: World) -> None:
    domain = verified_domain(world.acme, world.alice)
    asked = browser(world.alice).get(f"{page_of(world)}{domain.pk}/remove/").content.decode()
    assert "Another organisation that proves the domain can have it." in asked
    assert f"{domain.name} is removed" in post(world, f"{domain.pk}/remove/")
    assert not Domain.objects.filter(pk=domain.pk).exists()
    assert actions(world) == ["domain.removed"]


@pytest.mark.django_db
def test_another_organisations_domain_does_not_exist(world: World) -> None:
    theirs = verified_domain(world.other, world.charlie)
    for path in ("check", "code", "prove", "require", "remove"):
        assert browser(world.alice).post(f"{page_of(world)}{theirs.pk}/{path}/").status_code == 404
    with pytest.raises(Refused, match="no such domain"):
        services.remove_domain(theirs, by=world.actor("alice"))


@pytest.mark.django_db
def test_a_personal_account_has_no_domains(world: World) -> None:
    home = create_personal_account(world.mia)
    answer = browser(world.mia).post(f"/o/{home.slug}/security/domains/", {"name": a_name()})
    assert "A personal account has no domains" in answer.content.decode()


@pytest.mark.django_db
def test_the_page_costs_few_queries(world: World, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    for _ in range(3):
        verified_domain(world.acme, world.alice)
    client = browser(world.alice)
    client.get(page_of(world))
    with django_assert_max_num_queries(12):
        client.get(page_of(world))


@pytest.mark.django_db
def test_there_is_an_end_to_domains(world: World) -> None:
    owner = User.objects.get(pk=world.alice.pk)
    other = create_organization("Many", owner=owner)
    Domain.objects.bulk_create(
        Domain(organization=other, name=f"{number}.example", created_by=owner) for number in range(services.MOST_DOMAINS)
    )
    answer = browser(owner).post(f"/o/{other.slug}/security/domains/", {"name": a_name()})
    assert "at most 100 domains" in answer.content.decode()
