"""The web page as an output: it leaves the newest result of each source for those who look."""

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

    web: str | None = option(None, "Live page, /healthz, /metrics: :8080 for this machine.", metavar="[HOST:]PORT")
    web_token: str | None = option(
        None, "Secret that opens the page; needed for another host. Better env:NAME or file:PATH.",
        kind="secret", metavar="TOKEN",
    )  # fmt: skip
    web_hosts: tuple[str, ...] = option((), "Further name of the page.", name="web-host", metavar="NAME")

    def __post_init__(self) -> None:
        if (self.web_token or self.web_hosts) and not self.web:
            raise UsageError("--web-token, --web-host: they belong to --web, which is missing")


class Page(Output):
    """Server and encoder of the page, each with threads of its own."""

    settings_type = PageSettings
    name = "--web"

    def __init__(self, web: str, token: str | None, hosts: Iterable[str], context: LoopContext) -> None:
        """Serve.

        Args:
            web: [HOST:]PORT.
            token: Secret that opens the page; None for none.
            hosts: Further names by which it may be asked for.
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
