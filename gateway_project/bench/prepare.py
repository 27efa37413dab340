"""Fills a benchmark's empty database: schema, an organisation with limits on every level, the model. Prints the API key."""

import os
import sys
from typing import Any

import django


def main(upstream_url: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(organisation(upstream_url))  # noqa: T201


def organisation(upstream_url: str) -> str:
    """Budgets on organisation, three group levels, member and key, a rate on the key: as a company has them."""
    from billing import credits
    from gateway_project.lib.money import NANO
    from guardrails.models import Binding, Limit, Policy
    from orgs.actor import Actor
    from orgs.models import User
    from orgs.services.groups import create_group
    from orgs.services.keys import create_api_key
    from orgs.services.members import add_member
    from orgs.services.organizations import create_organization
    from proxy import catalogue

    owner = User.objects.create_user("owner@example.com")
    company = create_organization("Bench", owner=owner)
    actor = Actor.load(owner, organization=company)
    path = [company.root]
    for name in ("division", "department", "team"):
        path.append(create_group(path[-1], name=name, by=actor))
    add_member(owner, group=path[-1], by=actor)
    credits.top_up(company, amount_nano_usd=1_000_000 * NANO, reference="bench", by=owner)
    actor = Actor.load(owner, organization=company)
    key, text = create_api_key(path[-1], name="bench", member=owner, by=actor)
    subjects: list[dict[str, Any]] = [*({"group": group} for group in path), {"member": owner}, {"api_key": key}]
    for subject in subjects:
        policy = Policy.objects.create(organization=company, name="budget")
        Limit.objects.create(policy=policy, kind="budget", window="month", value=100_000 * NANO)
        Limit.objects.create(policy=policy, kind="budget", window="day", value=100_000 * NANO)
        Binding.objects.create(policy=policy, organization=company, **subject)
    catalogue.load(
        {
            "providers": [{"name": "bench", "kind": "openai-compatible", "base_url": upstream_url, "api_key": "none"}],
            "models": [
                {
                    "name": "bench",
                    "kind": "chat",
                    "context_window": 128000,
                    "max_output_tokens": 4096,
                    "price": {"input": "0.25", "cached_input": "0.025", "output": "2"},
                    "deployments": [{"provider": "bench", "model": "bench"}],
                }
            ],
        }
    )
    return text


if __name__ == "__main__":
    main(sys.argv[1])
