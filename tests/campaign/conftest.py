"""The house of the proxy's tests, for the campaign."""

from tests.proxy.conftest import declared, house, scripted_provider, upstream

__all__ = ["declared", "house", "scripted_provider", "upstream"]
