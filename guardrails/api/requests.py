"""What members ask for and admins above decide, for the API: the use of models that are new in the organisation."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request as ApiRequest
from rest_framework.response import Response

from guardrails import requests
from guardrails.models import Request
from orgs.api.base import OrgApiView, one_of, operation
from orgs.api.fields import Body, IdField
from orgs.api.paging import Paging
from orgs.permissions import Permission
from orgs.selectors import groups_visible_to

P = Permission


class RequestOut(serializers.Serializer[Request]):
    id = serializers.IntegerField()
    model = serializers.CharField()
    group_id = serializers.IntegerField(help_text="An approval reaches this group and everything below it.")
    status = serializers.ChoiceField(choices=Request.Status.choices)
    reason = serializers.CharField()
    requested_by_id = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    answer = serializers.CharField()
    decided_by_id = serializers.IntegerField(allow_null=True)
    decided_at = serializers.DateTimeField(allow_null=True)


def _words(**options: Any) -> serializers.CharField:
    return serializers.CharField(max_length=requests.WORDS, **options)


class NewRequest(Body):
    model = serializers.CharField(max_length=200)
    group_id = IdField()
    reason = _words(required=False, allow_blank=True)


class Approval(Body):
    group_id = IdField(required=False, help_text="Left out: the request's own group; else a wider one above it.")
    answer = _words(required=False, allow_blank=True)


class NewApproval(Body):
    model = serializers.CharField(max_length=200)
    group_id = IdField()
    answer = _words(required=False, allow_blank=True)


class Refusal(Body):
    answer = _words(help_text="So that whoever asked knows what to do.")


class Ending(Body):
    answer = _words(required=False, allow_blank=True)


class Ended(serializers.Serializer[Any]):
    """The approval, and those of the same model below it."""

    ended = RequestOut(many=True)


class RequestsQuery(Paging):
    status = serializers.ChoiceField(choices=Request.Status.choices, required=False)
    model = serializers.CharField(required=False, max_length=200)


class RequestView(OrgApiView):
    resource = "requests"
    writes = (P.MANAGE_GUARDRAILS,)

    def found(self, request_id: int) -> Request:
        return requests.access_request_by_id(self.actor, request_id)

    def shown(self, request: Request, *, status: int = 200) -> Response:
        return Response(RequestOut(request).data, status=status)


class Requests(RequestView):
    writes = (P.MANAGE_OWN_KEYS,)

    @operation(
        "Requests: your own, and those of groups whose guardrails you manage", gives=RequestOut, many=True, query=RequestsQuery
    )
    def get(self, request: ApiRequest, org: str) -> Response:
        return self.page(self.narrowed(requests.requests_visible_to(self.actor), status="status", model="model"), RequestOut)

    @operation("Ask for a model that needs an approval", takes=NewRequest, gives=RequestOut, status=201)
    def post(self, request: ApiRequest, org: str) -> Response:
        given = self.body(NewRequest)
        group = one_of(groups_visible_to(self.actor), given.pop("group_id"))
        return self.shown(requests.request_model(given.pop("model"), group=group, by=self.actor, **given), status=201)


class Approvals(RequestView):
    @operation("Approve a model that nobody has asked for", takes=NewApproval, gives=RequestOut, status=201)
    def post(self, request: ApiRequest, org: str) -> Response:
        given = self.body(NewApproval)
        group = one_of(groups_visible_to(self.actor), given.pop("group_id"))
        return self.shown(requests.approve_model(given.pop("model"), group=group, by=self.actor, **given), status=201)


class OneRequest(RequestView):
    @operation("One request", gives=RequestOut)
    def get(self, request: ApiRequest, org: str, request_id: int) -> Response:
        return self.shown(self.found(request_id))


class ApprovedRequest(RequestView):
    @operation("Approve a request: the model may be called there from the next call on", takes=Approval, gives=RequestOut)
    def post(self, request: ApiRequest, org: str, request_id: int) -> Response:
        given = self.body(Approval)
        if "group_id" in given:
            given["group"] = one_of(groups_visible_to(self.actor), given.pop("group_id"))
        return self.shown(requests.approve(self.found(request_id), by=self.actor, **given))


class DeclinedRequest(RequestView):
    @operation("Decline a request", takes=Refusal, gives=RequestOut)
    def post(self, request: ApiRequest, org: str, request_id: int) -> Response:
        return self.shown(requests.decline(self.found(request_id), by=self.actor, **self.body(Refusal)))


class WithdrawnRequest(RequestView):
    writes = (P.VIEW_OWN,)

    @operation("Take a request of your own back", gives=RequestOut)
    def post(self, request: ApiRequest, org: str, request_id: int) -> Response:
        return self.shown(requests.withdraw(self.found(request_id), by=self.actor))


class RevokedRequest(RequestView):
    @operation("End an approval, from the next call on", takes=Ending, gives=Ended)
    def post(self, request: ApiRequest, org: str, request_id: int) -> Response:
        ended = requests.revoke(self.found(request_id), by=self.actor, **self.body(Ending))
        return Response(Ended({"ended": ended}).data)
