"""What a policy or an exception governs, as the API names it: a kind and an id."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from guardrails.models import Binding, Override
from guardrails.subjects import LETTERS, Subject, column_of, find
from orgs.actor import Actor
from orgs.api.fields import Body, IdField
from orgs.models import User

# As tokens of forms name them (guardrails/subjects.py).
KINDS = {column: letter for letter, column in LETTERS.items()}


class SubjectOut(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=list(KINDS))
    id = serializers.IntegerField(help_text="Of a member: of the person.")
    name = serializers.CharField()


class SubjectIn(Body):
    kind = serializers.ChoiceField(choices=list(KINDS))
    id = IdField(help_text="Of a member: of the person. The root group stands for the organisation.")


def described(row: Binding | Override) -> dict[str, Any]:
    subject = row.subject
    name = subject.display_name if isinstance(subject, User) else subject.name
    return {"kind": column_of(subject), "id": subject.pk, "name": name}


def subject_in(given: dict[str, Any], *, actor: Actor) -> Subject:
    """Of what a SubjectIn took. Raises ValidationError."""
    subject = find(actor, f"{KINDS[given['kind']]}{given['id']}")
    if subject is None:
        raise serializers.ValidationError({"subject": "There is no such thing, or none whose guardrails you manage."})
    return subject
