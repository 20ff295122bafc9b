"""Passwords and tokens out of everything that people and other programs read.

Two nets, since neither is enough alone: `redact` finds secrets by the form of a URL, in any text; `hide` remembers
those that are known, in each spelling, wherever they turn up. `SecretFilter` puts both under all logging.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import quote, unquote

MASK = "***"
_SHORTEST = 4
"""Characters of the shortest secret that `hide` looks for everywhere: a shorter one is part of too many words."""
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_QUERY = re.compile(r"([?&;][^=&;\s]*(?:pass|pwd|token|key|secret|auth|sig)[^=&;\s]*=)[^&;\s'\"<>]*", re.IGNORECASE)
_known: set[str] = set()


def redact(text: str) -> str:
    """A text fit for everybody: passwords in its URLs, what a query calls one, and hidden secrets become `***`.

    The text may be a URL, or hold several. A password may hold "/", "@" or ":" unescaped, as people type them, so
    everything up to the last "@" of a URL counts as credentials.
    """
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _QUERY.sub(rf"\1{MASK}", _URL.sub(lambda match: _redact_url(match[0]), text))


def _redact_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    credentials, at, address = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}://{user}{colon and f':{MASK}'}{at}{address}"


def find_secrets(url: str) -> tuple[str, ...]:
    """The password of a URL and the secrets of its query, as written."""
    credentials, _, _ = url.partition("://")[2].rpartition("@")
    password = credentials.partition(":")[2]
    queried = [match[0][len(match[1]) :] for match in _QUERY.finditer(url)]
    return tuple(secret for secret in (password, *queried) if secret)


def hide(*secrets: str) -> None:
    """Have `redact` replace these wherever they turn up: as written, percent-decoded and percent-encoded.

    Secrets of fewer than four characters are left out, since they are part of too many words.
    """
    for secret in secrets:
        plain = unquote(secret)
        spellings = {secret, plain, quote(plain), quote(plain, safe="")}
        _known.update(spelling for spelling in spellings if len(spelling) >= _SHORTEST)


class SecretFilter(logging.Filter):
    """Redacts every record of a handler, arguments and traceback included; never drops one."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True
