"""Names of the keys in Redis. All of them may be lost at any moment: then every deployment is taken for healthy, and unused.

They share one hash tag, so that one script may touch those of several deployments, on a cluster too.
"""

from __future__ import annotations


def state(name: str) -> str:
    """Hash: what the workers know together of a deployment (lua/report.lua)."""
    return f"gh:{{deployments}}:h:{name}"


def probe(name: str) -> str:
    """Held by the one call that may try a deployment whose circuit was open."""
    return f"gh:{{deployments}}:p:{name}"


def quota(name: str) -> str:
    """Hash: requests and tokens of the last minute, by second (lua/reserve.lua)."""
    return f"gh:{{deployments}}:q:{name}"


# Hash: deployments at which a key is refused, by `Deployment.health_name` → since when, ms (lua/report.lua).
REFUSED = "gh:{deployments}:refused"
# Hash: keys that served a call while some were refused (`refused.served_by`) → when the latest such attempt began, ms.
# The first report after the last of the marks is gone takes it away.
WORKED = "gh:{deployments}:worked"
# Hash: accounts of whose refused key people have been told (proxy/health/refused.py).
TOLD = "gh:{deployments}:told"
