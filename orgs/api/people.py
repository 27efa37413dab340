"""People named in what is sent: only those who belong to the organisation and are seen by who names them."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework import serializers

from orgs.actor import Actor
from orgs.models import User
from orgs.selectors import members_visible_to


class Person(serializers.Serializer[User]):
    id = serializers.IntegerField()
    email = serializers.EmailField()
    name = serializers.CharField()


def person_in(actor: Actor, user_id: int) -> User:
    """Raises Http404."""
    membership = members_visible_to(actor).filter(user=user_id).first()
    if membership is None:
        raise Http404("no such person")
    return membership.user


def owner_in(given: dict[str, Any], *, actor: Actor) -> dict[str, Any]:
    """`owner_id` as the services take it: the person, or None."""
    if "owner_id" not in given:
        return given
    owner_id = given.pop("owner_id")
    return {**given, "owner": None if owner_id is None else person_in(actor, owner_id)}
