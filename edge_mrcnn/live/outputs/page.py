"""The web page as an output: it keeps the newest result of each source for viewers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge_mrcnn.live.access import Access, parse_address
from edge_mrcnn.live.option_spec import option
from edge_mrcnn.live.outputs.base import LoopContext, Output
from edge_mrcnn.live.pictures import PictureEncoder
from edge_mrcnn.live.result import LiveResult
from edge_mrcnn.live.routes import Site
from edge_mrcnn.live.web import PageServer
from runtimes.errors import UsageError
from runtimes.redaction import hide


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """Options of the page."""

    web: str | None = option(
        None,
        "Serve the live page, /healthz and /metrics; at :8080, only this machine can connect.",
        metavar="[HOST:]PORT",
    )
    web_token: str | None = option(
        None, "Token for the page, required for other hosts; use env:NAME or file:PATH.",
        kind="secret", metavar="TOKEN",
    )  # fmt: skip
    web_hosts: tuple[str, ...] = option(
        (),
        "Further host name that the page accepts, such as that of a proxy; repeatable.",
        name="web-host",
        metavar="NAME",
    )

    def __post_init__(self) -> None:
        if (self.web_token or self.web_hosts) and not self.web:
            raise UsageError("--web-token and --web-host need --web [HOST:]PORT")


class Page(Output):
    """Server and encoder of the page, each with threads of its own."""

    settings_type = PageSettings
    name = "--web"

    def __init__(self, web: str, token: str | None, hosts: Iterable[str], context: LoopContext) -> None:
        """Serve.

        Args:
            web: [HOST:]PORT.
            token: Token that opens the page; None for none.
            hosts: Further host names of the page.
            context: The loop.

        Raises:
            UsageError: If it cannot be served there.
        """
        address = parse_address(web)
        if token:
            hide(token)
        access = Access(address, token, hosts)
        self._encoder = PictureEncoder(self.start_thread)
        site = Site(
            context.card, context.monitor, context.controls, context.scenes, self._encoder, access, context.tallies
        )
        try:
            self.server = PageServer(address, site)
        except BaseException:
            self._encoder.close()
            raise

    @classmethod
    def open(cls, settings: PageSettings, context: LoopContext) -> Page | None:
        return cls(settings.web, settings.web_token, settings.web_hosts, context) if settings.web else None

    def wants_picture(self, source: str) -> bool:
        return self._encoder.wants_picture(source)

    def put(self, result: LiveResult) -> None:
        self._encoder.put(result)

    def greetings(self) -> Iterable[str]:
        yield f"page: {self.server.address.url}"

    def close(self) -> None:
        self._encoder.close()
        self.server.close()
