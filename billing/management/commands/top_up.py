"""`manage.py top_up SLUG AMOUNT --reference TEXT`: prepaid credit for an organisation."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from billing import credits
from billing.topping_up import NOTE_LENGTH, REFERENCE_LENGTH, top_up
from gateway_project.lib.commands import ServedCommand
from gateway_project.lib.money import MOST_NANO_USD, BadAmount, exact_usd, parse_usd
from orgs.errors import Refused
from orgs.models import Organization


class Command(ServedCommand):
    help = "Adds prepaid credit to an organisation. The same reference twice adds nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="the organisation, as in the address of its pages: /o/SLUG/")
        parser.add_argument("amount", metavar="AMOUNT", help="US dollars, such as 500 or 12.50")
        parser.add_argument("--reference", required=True, help="of the transfer, invoice or decision")
        parser.add_argument("--note", default="", help="kept with it")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = Organization.objects.filter(slug=options["slug"]).first()
        if organization is None:
            raise CommandError(f"There is no organisation “{options['slug']}”.")
        reference, note = (_bounded(options, *bound) for bound in (("reference", REFERENCE_LENGTH), ("note", NOTE_LENGTH)))
        try:
            added = top_up(organization, amount_nano_usd=_amount(options["amount"]), reference=reference, note=note)
        except Refused as refused:
            raise CommandError(refused.message) from None
        left = f"{organization.slug} has ${exact_usd(credits.available(organization))} left to spend."
        self.stdout.write(left if added else f"“{reference}” had been added before: nothing was added now. {left}")


def _amount(text: str) -> int:
    try:
        amount = parse_usd(text.removeprefix("$"))
    except BadAmount as bad:
        raise CommandError(f"{bad}: give US dollars, such as 500 or 12.50.") from None
    if not 0 < amount <= MOST_NANO_USD:
        raise CommandError(f"{text}: give more than zero, and at most {exact_usd(MOST_NANO_USD)}.")
    return amount


def _bounded(options: dict[str, Any], name: str, length: int) -> str:
    """Without what stands around it. PostgreSQL takes no NUL."""
    text = str(options[name]).strip()
    if len(text) > length or "\0" in text or (name == "reference" and not text):
        raise CommandError(f"--{name}: give between 1 and {length} characters.")
    return text
