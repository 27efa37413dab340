"""What `GET /api/v1/explain` takes and gives, for the document of the API. The words are `explain_forms` and `explained`."""

from __future__ import annotations

from typing import Any, get_args

from drf_spectacular.utils import extend_schema
from rest_framework import serializers

from proxy.explain_forms import MOST_ANSWERS, MOST_TOKENS, USUAL_INPUT
from proxy.explained import Verdict

VERDICTS = get_args(Verdict)


class Asked(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=200)
    key = serializers.RegexField(
        r"^[a-z0-9]{6,16}$",
        required=False,
        help_text="The public id of a key, the part after gh_sk_. With the console's session it must be there.",
    )
    input_tokens = serializers.IntegerField(min_value=0, max_value=MOST_TOKENS, default=USUAL_INPUT)
    reserve_tokens = serializers.IntegerField(
        min_value=0,
        max_value=MOST_TOKENS,
        default=0,
        help_text="What may be read besides what is sent (documents behind addresses): held for, not counted in rates.",
    )
    max_tokens = serializers.IntegerField(
        min_value=1, max_value=MOST_TOKENS, required=False, help_text="What the request asks for; left out: it sets none."
    )
    address = serializers.IPAddressField(required=False, help_text="Where the call comes from; left out: where you are.")
    feature = serializers.CharField(max_length=60, required=False, help_text="Named in the header x-gatehouse-feature.")
    stream = serializers.BooleanField(default=False)
    n = serializers.IntegerField(min_value=1, max_value=MOST_ANSWERS, default=1, help_text="How many answers it asks for.")


class QuestionOut(serializers.Serializer[Any]):
    model = serializers.CharField()
    input_tokens = serializers.IntegerField()
    max_tokens = serializers.IntegerField(allow_null=True)
    stream = serializers.BooleanField()
    address = serializers.CharField()
    feature = serializers.CharField()
    n = serializers.IntegerField()
    reserve_tokens = serializers.IntegerField()


class ExplainedKey(serializers.Serializer[Any]):
    name = serializers.CharField()
    organization = serializers.CharField()
    path = serializers.ListField(child=serializers.CharField())
    member = serializers.CharField(allow_null=True)
    application = serializers.CharField(allow_null=True)
    environment = serializers.CharField(allow_null=True)
    features = serializers.ListField(child=serializers.CharField())
    expires_at = serializers.DateTimeField(allow_null=True)


class ExplainedRefusal(serializers.Serializer[Any]):
    status = serializers.IntegerField()
    code = serializers.CharField()
    message = serializers.CharField()
    ask = serializers.CharField(allow_null=True, help_text="Who can change it.")


class Degrading(serializers.Serializer[Any]):
    model = serializers.CharField()
    below_left = serializers.CharField()


class ExplainedLine(serializers.Serializer[Any]):
    """A limit, a rule, or a node of the path that has neither. Only limits have figures: dollars of a budget, else counts."""

    level = serializers.CharField()
    node = serializers.CharField()
    policy = serializers.CharField(allow_null=True)
    kind = serializers.CharField()
    window = serializers.CharField(allow_null=True)
    limit = serializers.CharField(required=False)
    spent = serializers.CharField(required=False)
    held = serializers.CharField(required=False)
    left = serializers.CharField(required=False)
    resets_at = serializers.DateTimeField(required=False, allow_null=True)
    forgiven = serializers.CharField(required=False)
    changes_at = serializers.DateTimeField(required=False, allow_null=True)
    degrades = Degrading(required=False, allow_null=True)
    entries = serializers.ListField(child=serializers.CharField(), required=False)
    verdict = serializers.ChoiceField(choices=VERDICTS)
    code = serializers.CharField(allow_null=True)
    text = serializers.CharField(help_text="What it does to the call, in words.")
    decides = serializers.BooleanField()


class ExplanationOut(serializers.Serializer[Any]):
    """What is not known because the call gets no plan is null."""

    object = serializers.CharField()
    verdict = serializers.ChoiceField(choices=VERDICTS)
    refusal = ExplainedRefusal(allow_null=True)
    question = QuestionOut()
    key = ExplainedKey()
    model = serializers.CharField(allow_null=True)
    degraded_from = serializers.CharField(allow_null=True)
    providers = serializers.ListField(child=serializers.CharField())
    reserves_usd = serializers.CharField(allow_null=True)
    reserves_tokens = serializers.IntegerField(allow_null=True)
    max_tokens = serializers.IntegerField(allow_null=True, help_text="What the provider would be told; null: nothing.")
    clamped = serializers.BooleanField()
    observed_hold = serializers.BooleanField()
    lines = ExplainedLine(many=True, help_text="All that has a say, the most specific first.")


class Told(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    param = serializers.CharField(allow_null=True)


class NotExplained(serializers.Serializer[Any]):
    """`code` is one of the calls' own: invalid_api_key, ip_not_allowed, key_not_found, …"""

    error = Told()


documented = extend_schema(
    operation_id="explain",
    summary="Why a call with a key would pass, be refused or be changed",
    parameters=[Asked],
    auth=[{"key": []}, {"session": []}],  # type: ignore[list-item]
    responses={200: ExplanationOut, **dict.fromkeys((400, 401, 403, 404, 503), NotExplained)},
)
