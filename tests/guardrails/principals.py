"""A caller whose key, application, member and groups are known by heart."""

from orgs.access import Node, Principal

PATH = (Node(1, 0, "Acme"), Node(2, 1, "engineering"), Node(3, 2, "platform"))
MIA = Principal(
    organization_id=7,
    organization_name="Acme",
    time_zone="Asia/Kathmandu",
    attribution_required=False,
    path=PATH,
    member_id=40,
    member_name="Mia",
    key_id=50,
    key_name="Mia's key",
    application_id=60,
    application_name="Assistant",
    environment="production",
    features=(),
    expires_at=None,
)
