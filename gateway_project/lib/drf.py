"""The base of the proxy's views: Django REST framework's `APIView` with an asynchronous dispatch.

adrf's costs two thread hops a request for authentication and throttles; here authentication is a coroutine of the
view's own, and there are no throttles (limits are the guardrails' business). DRF's request, parsers, response and
schema stay. Exceptions are not turned into DRF's shape but go to the lean handler, which answers every error of a
route in that route's protocol.
"""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway_project.lib import lean


class AsyncAPIView(APIView):
    """Handlers (`get`, `post`, …) are coroutines that return a response; `authenticate` runs before them."""

    allowed: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Django lets `get` answer HEAD, too."""
        super().__init_subclass__()
        cls.allowed = tuple(name.upper() for name in cls.http_method_names if hasattr(cls, "get" if name == "head" else name))

    async def authenticate(self, request: Request) -> None:
        """Overridden where a route needs it; raises what the route's protocol renders."""

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        self.args, self.kwargs = args, kwargs
        self.headers: dict[str, str] = {}
        self.request = wrapped = self.initialize_request(request, *args, **kwargs)
        try:
            handler = self._handler(request.method or "")
            await self.authenticate(wrapped)
            response = await handler(wrapped, *args, **kwargs)
        except Exception as error:
            response = self.handle_exception(error)
        finally:
            # It points back at the request and the view: without it both go at once instead of at the next collection.
            wrapped.parser_context.clear()
        self.response = self.finalize_response(wrapped, response, *args, **kwargs)  # type: ignore[arg-type]
        return self.response

    def handle_exception(self, exc: Exception) -> Response:
        """Raises it again, for the lean handler; a view that can answer an exception itself overrides this."""
        raise exc

    def _handler(self, method: str) -> Callable[..., Awaitable[HttpResponseBase]]:
        if method == "OPTIONS":
            return self._options
        if method not in self.allowed:
            raise lean.MethodNotAllowed(method, allow=self.allowed)
        handler: Callable[..., Awaitable[HttpResponseBase]] = getattr(self, method.lower())
        return handler

    async def _options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return Response(status=204, headers={"Allow": ", ".join(self.allowed)})
