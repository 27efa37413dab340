"""The operator adds prepaid credit, by page and by command: once for each reference, traced, and from the next call on."""

from __future__ import annotations

import io
import threading
from html import unescape

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client
from django.urls import reverse

from billing import credits
from billing.topping_up import top_up, top_up_by
from gateway_project.lib import redis
from orgs import epoch
from orgs.errors import Refused
from orgs.models import AuditEvent, Organization, User
from proxy.spend import FUNDED_SQL
from tests.actors import World, operator
from tests.billing import rows

DOLLAR = 1_000_000_000


def events(organization: Organization) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(organization=organization, action="credit.topped_up").order_by("pk"))


# --- the page ----------------------------------------------------------------------------------
@pytest.fixture
def client(db: None) -> Client:
    client = Client()
    client.force_login(operator().user)
    return client


def address(organization: Organization) -> str:
    return reverse("platform:credit", args=[organization.pk])


def shown(client: Client, organization: Organization, *, status: int = 200, **typed: str) -> str:
    answer = client.post(address(organization), typed) if typed else client.get(address(organization))
    assert answer.status_code == status
    return unescape(answer.content.decode())


def test_the_list_of_organisations_leads_to_the_credit_of_each(world: World, client: Client) -> None:
    listed = client.get(reverse("platform:organizations"), {"q": world.acme.slug}).content.decode()
    assert f'href="{address(world.acme)}"' in listed


def test_who_has_none_is_said_to_be_refused(world: World, client: Client) -> None:
    assert "Its calls are refused until it has credit." in shown(client, world.acme)
    credits.top_up(world.acme, amount_nano_usd=3 * DOLLAR, reference="gift")
    page = shown(client, world.acme)
    assert "Its calls are refused" not in page
    assert "$3.00" in page
    assert "gift" in page


def test_added_credit_counts_and_stands_in_the_audit_trail(world: World, client: Client) -> None:
    before = redis.client().get(epoch.keys(world.acme.pk)[0])
    typed = {"amount": "$1,250.50", "reference": " Transfer 7 ", "note": "first quarter"}
    answer = client.post(address(world.acme), typed, follow=True)
    assert answer.redirect_chain == [(reverse("platform:organizations"), 302)]
    assert "$1,250.50 were added. They count on the next call." in unescape(answer.content.decode())
    assert credits.available(world.acme) == 1_250_500_000_000
    (event,) = events(world.acme)
    assert event.after == {"amount_nano_usd": 1_250_500_000_000, "reference": "Transfer 7", "note": "first quarter"}
    assert event.actor == User.objects.get(pk=client.session["_auth_user_id"])
    assert before is None or before != redis.client().get(epoch.keys(world.acme.pk)[0])


def test_the_page_tells_every_kind_of_movement_the_latest_first(world: World, client: Client) -> None:
    credits.top_up(world.acme, amount_nano_usd=20 * DOLLAR, reference="in")
    credits.adjust(world.acme, amount_nano_usd=-3 * DOLLAR, reference="fix", note="a wrong transfer")
    credits.refund(world.acme, amount_nano_usd=5 * DOLLAR, reference="back")
    page = " ".join(shown(client, world.acme).split())
    places = [page.index(words) for words in ("-$5.00", "-$3.00", "$20.00")]
    assert places == sorted(places)
    assert "a wrong transfer" in page, "where there is a note it tells more than a reference"
    assert "$12.00" in page


def test_what_was_charged_is_taken_off_and_may_be_more_than_there_is(world: World, client: Client) -> None:
    """A correction of the pool may leave less than was spent: then nothing is admitted, and the page does not hide it."""
    credits.top_up(world.acme, amount_nano_usd=2 * DOLLAR, reference="in")
    rows.insert(world.acme.pk, charged=DOLLAR // 2)
    assert "$1.50" in shown(client, world.acme)
    credits.adjust(world.acme, amount_nano_usd=-2 * DOLLAR, reference="fix", note="was not ours")
    assert "-$0.50" in shown(client, world.acme)


def test_a_form_that_is_sent_twice_adds_once(world: World, client: Client) -> None:
    typed = {"amount": "5", "reference": "Transfer 7"}
    client.post(address(world.acme), typed)
    again = client.post(address(world.acme), typed, follow=True)
    assert "“Transfer 7” had been added before: nothing was added now." in unescape(again.content.decode())
    assert credits.available(world.acme) == 5 * DOLLAR
    assert len(events(world.acme)) == 1


def test_a_reference_of_another_amount_is_refused_beside_its_field(world: World, client: Client) -> None:
    client.post(address(world.acme), {"amount": "5", "reference": "Transfer 7"})
    page = shown(client, world.acme, status=422, amount="50", reference="Transfer 7")
    assert "“Transfer 7” stands for another movement already. Give each its own." in page
    assert 'value="50"' in page, "what was typed stays"
    assert credits.available(world.acme) == 5 * DOLLAR


@pytest.mark.parametrize(
    ("amount", "why"),
    [
        ("", "This field is required."),
        ("0", "Give more than zero."),
        ("-3", "Give more than zero."),
        ("12,50", "Write the decimals after a point: 12.50"),
        ("many", "Give an amount in US dollars, such as 25 or 0.50"),
        ("4000000000.01", "At most $4,000,000,000, with at most nine decimals."),
    ],
)
def test_what_is_no_amount_says_why_and_adds_nothing(world: World, client: Client, amount: str, why: str) -> None:
    assert why in shown(client, world.acme, status=422, amount=amount, reference="Transfer 7")
    assert credits.available(world.acme) == 0
    assert not events(world.acme)


def test_a_reference_has_to_be_given_and_bounded(world: World, client: Client) -> None:
    for reference in ("", " ", "x" * 121, "a\0b"):
        shown(client, world.acme, status=422, amount="5", reference=reference)
    assert credits.available(world.acme) == 0


def test_nobody_but_an_operator_finds_the_page(world: World) -> None:
    client = Client()
    client.force_login(world.alice)
    assert client.get(address(world.acme)).status_code == 404
    assert client.post(address(world.acme), {"amount": "5", "reference": "mine"}).status_code == 404
    assert credits.available(world.acme) == 0


def test_a_personal_account_can_have_credit_too(world: World, client: Client) -> None:
    own = Organization.objects.create(name="Mia", slug=f"mia-{world.mia.pk}", kind=Organization.Kind.PERSONAL)
    client.post(address(own), {"amount": "5", "reference": "gift"})
    assert credits.available(own) == 5 * DOLLAR


# --- the service -------------------------------------------------------------------------------
def test_the_same_reference_in_another_organisation_is_another_movement(world: World) -> None:
    by = operator()
    assert top_up_by(by, world.acme, amount_nano_usd=DOLLAR, reference="one")
    assert top_up_by(by, world.other, amount_nano_usd=2 * DOLLAR, reference="one")
    assert not top_up_by(by, world.acme, amount_nano_usd=DOLLAR, reference="one")
    assert (credits.available(world.acme), credits.available(world.other)) == (DOLLAR, 2 * DOLLAR)


def test_a_reference_of_another_kind_of_movement_is_taken(world: World) -> None:
    credits.adjust(world.acme, amount_nano_usd=DOLLAR, reference="one", note="corrected")
    with pytest.raises(Refused) as refused:
        top_up(world.acme, amount_nano_usd=DOLLAR, reference="one")
    assert refused.value.field == "reference"
    assert not events(world.acme)


def test_more_than_counters_hold_is_refused_in_a_sentence_and_what_fits_is_exact(world: World, client: Client) -> None:
    """Three of the largest are more than a bigint: the limit of the pool would be none that a call could be judged by."""
    most = {"amount": "4000000000"}
    for reference in ("one", "two"):
        assert client.post(address(world.acme), {**most, "reference": reference}).status_code == 302
    page = shown(client, world.acme, status=422, **most, reference="three")
    assert "All credit of an organisation comes to $9,000,000,000.00 at most: $1,000,000,000.00 more would fit." in page
    with pytest.raises(CommandError, match=r"at most: \$1,000,000,000.00 more"):
        printed(world.acme.slug, "4000000000", "--reference", "three")
    with pytest.raises(credits.TooMuchCredit):
        credits.adjust(world.acme, amount_nano_usd=4_000_000_000 * DOLLAR, reference="three", note="corrected")
    assert len(events(world.acme)) == 2

    assert client.post(address(world.acme), {"amount": "999999999.999999999", "reference": "rest"}).status_code == 302
    assert credits.funded(world.acme) == credits.available(world.acme) == 8_999_999_999_999_999_999
    credits.refund(world.acme, amount_nano_usd=4_000_000_000 * DOLLAR, reference="back")
    assert client.post(address(world.acme), {**most, "reference": "three"}).status_code == 302, "there is room again"
    with connection.cursor() as cursor:
        cursor.execute(FUNDED_SQL, [world.acme.pk])
        assert cursor.fetchone() == (8_999_999_999_999_999_999,)


def test_many_at_once_never_add_more_than_fits(committed_db: None) -> None:
    acme, most = rows.new_organization(), 4_000_000_000 * DOLLAR
    outcomes: list[str] = []

    def add(number: int) -> None:
        try:
            top_up(acme, amount_nano_usd=most, reference=f"transfer {number}")
        except Refused as refused:
            outcomes.append(str(refused.field))
        else:
            outcomes.append("added")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=add, args=[number]) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["added"] * 2 + ["amount"] * 3
    assert credits.funded(acme) == 2 * most
    assert len(events(acme)) == 2, "what was refused is in no trail"


def test_many_at_once_add_once(committed_db: None) -> None:
    acme = rows.new_organization()
    outcomes: list[bool] = []

    def add() -> None:
        try:
            outcomes.append(top_up(acme, amount_nano_usd=DOLLAR, reference="once"))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 5 + [True]
    assert credits.available(acme) == DOLLAR
    assert len(events(acme)) == 1


# --- the command -------------------------------------------------------------------------------
def printed(*words: str) -> str:
    call_command("top_up", *words, stdout=(out := io.StringIO()))
    return out.getvalue()


def test_the_command_adds_and_says_what_is_left(world: World) -> None:
    slug = world.acme.slug
    assert printed(slug, "500", "--reference", "t1") == f"{slug} has $500 left to spend.\n"
    assert printed(slug, "$12.50", "--reference", "t2", "--note", "more") == f"{slug} has $512.5 left to spend.\n"
    again = printed(slug, "500", "--reference", " t1 ")
    assert again == f"“t1” had been added before: nothing was added now. {slug} has $512.5 left to spend.\n"
    first, second = events(world.acme)
    assert (first.actor, first.after) == (None, {"amount_nano_usd": 500 * DOLLAR, "reference": "t1"})
    assert second.after["note"] == "more"


@pytest.mark.parametrize("amount", ["0", "-1", "many", "1e400", "4000000001", "0.0000000001"])
def test_the_command_takes_no_amount_that_is_none(world: World, amount: str) -> None:
    with pytest.raises(CommandError):
        call_command("top_up", world.acme.slug, "--reference", "t1", "--", amount)
    assert credits.available(world.acme) == 0


def test_the_command_says_what_it_does_not_know(world: World) -> None:
    with pytest.raises(CommandError, match="There is no organisation “nowhere”"):
        call_command("top_up", "nowhere", "5", "--reference", "t1")
    for reference in ("", " ", "x" * 121, "a\0b"):
        with pytest.raises(CommandError, match="--reference: give between 1 and 120 characters"):
            call_command("top_up", world.acme.slug, "5", "--reference", reference)
    top_up(world.acme, amount_nano_usd=DOLLAR, reference="t1")
    with pytest.raises(CommandError, match="stands for another movement already"):
        call_command("top_up", world.acme.slug, "5", "--reference", "t1")
    assert credits.available(world.acme) == DOLLAR
