"""What a provider may bill of a call as written to its prompt cache, at another price than input: what a hold must fear.

Claude, wherever it runs, writes only what is marked: by the caller, or by the gateway where the operator asks for it. Most
others cache as they like, and those whose protocol cannot say so never report a lifetime of an hour unless they were told one.
"""

from billing.pricing import CacheWrites
from proxy.canonical.request import Request
from proxy.deployments import Deployment
from proxy.protocols import cache_marks, claude_models, converse, messages

# Their answers tell what was written for how long.
_TELL_LIFETIMES = (messages.NAME, converse.NAME)


def possible(deployment: Deployment, request: Request) -> CacheWrites:
    """Never less than what can be billed. What is asked is only looked through where the price makes a difference."""
    if deployment.price is None or not deployment.price.rates.prices_writes:
        return "any"
    provider = deployment.provider
    spoken = deployment.protocol_for(request)
    if not provider.caches_by_marks or claude_models.version(deployment.target.model) is None:
        if spoken in _TELL_LIFETIMES:
            return "any"
        return "any" if provider.quirks.cache_marks and cache_marks.asked_for(request) == "any" else "short"
    asked = cache_marks.asked_for(request)
    if asked == "none" and provider.quirks.auto_cache:
        return "short" if cache_marks.may_be_set(request, translated=spoken != request.protocol) else "none"
    return asked
