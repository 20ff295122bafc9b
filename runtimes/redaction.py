"""Removal of passwords and tokens from all output.

Two methods are combined, because neither is enough alone: `redact` finds secrets in any text by the form of a URL or of
a GStreamer property; `hide` remembers known secrets in all spellings. `SecretFilter` applies both to all logging.
Anything that may be a secret is hidden: in a URL only values of keys that are known to be harmless are shown, and long,
random-looking parts of a path are not.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import quote, unquote

MASK = "***"
HARMLESS = frozenset(
    {
        *("channel", "ch", "cam", "camera", "camid", "stream", "subtype", "profile", "track", "index", "source"),
        *("resolution", "res", "size", "width", "height", "fps", "rate", "quality", "compression", "codec", "format"),
        *("open", "stall", "transport", "proto", "unicast", "media", "type", "mode", "video", "audio"),
    }
)
"""Keys of camera addresses with harmless values, in lower case. All others may hold a secret."""
_SHORTEST = 4
"""Minimum length of a secret that `hide` looks for everywhere; shorter ones occur in too many words."""
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]*[^\s'\"<>:,.;]", re.IGNORECASE)
_LOGIN = re.compile(r"(?<![\w.*@])([^\s/@:'\"]+):([^\s/@'\"]+)@(?=[\w\[])")
"""User name and password before a host, if the scheme is missing or misspelt."""
_PATH_PIECE = re.compile(r"[^&;/#]+")
_QUERY_PIECE = re.compile(r"[^&;?#,]+")
"""Text between two separators of a path, and of a query, whose values may contain a "/"."""
_PROPERTY = re.compile(
    r"((?:^|\s)(?:[a-z]+-)?(?:pw|pass|passwd|password|passphrase|token|secret|headers|cookies)\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s'\"]+)",
    re.IGNORECASE,
)
"""A property of a GStreamer element with a secret, such as `user-pw=...`."""
_SECRET_KEY = re.compile(r"pass?|pas$|pw|token|key|secret|auth|sig|^p$", re.IGNORECASE)
"""Keys whose values are secrets everywhere; values of other unknown keys are hidden only in that URL."""
_PATH_WORD = re.compile(r"[^/.]+")
_SEPARATOR = re.compile(r"[-_~+=:]")
_SHORTEST_TOKEN = 12
"""Minimum length of a path part that may be a token."""
_LONGEST_WORD = 31
"""A longer path part without any separator is treated as a token."""
_HEX = re.compile(r"[0-9a-f]{16,}", re.IGNORECASE)
_NEXT_KEY = re.compile(r"_(?=[A-Za-z][A-Za-z0-9-]*=)")
"""Start of the next key in `user=admin_password=x_channel=1`, the syntax of many recorders."""
_known: set[str] = set()


def redact(text: str) -> str:
    """A text without secrets: possible secrets in its URLs and pipelines, and secrets of `hide`, become `***`.

    The text may be a URL, or contain several. A password may contain "/", "@" or ":" unescaped, as people type them, so
    everything up to the last "@" of a URL counts as credentials.
    """
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _PROPERTY.sub(rf"\1{MASK}", text)
    text = _URL.sub(lambda match: _redact_url(match[0]), text)
    return _LOGIN.sub(rf"\1:{MASK}@", text)


def find_secrets(text: str) -> tuple[str, ...]:
    """The passwords and tokens in a URL or pipeline, as written."""
    found = [match[2].strip("\"'") for match in _PROPERTY.finditer(text)]
    for match in _URL.finditer(text):
        credentials, _, address = match[0].partition("://")[2].rpartition("@")
        user, colon, password = credentials.partition(":")
        found.append(password if colon else user)
        found.extend(pair.value for pair in _pairs(address) if _SECRET_KEY.search(pair.key))
    return tuple(secret for secret in found if secret and secret != MASK)


def _redact_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    credentials, at, address = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    pieces = [scheme, "://", f"{user}:{MASK}" if colon else MASK * bool(user), at]
    end = 0
    for pair in _pairs(address):
        if pair.value and pair.key.lower() not in HARMLESS:
            pieces += [address[end : pair.start], MASK]
            end = pair.start + len(pair.value)
    return "".join([*pieces, address[end:]])


class _Pair(NamedTuple):
    key: str
    value: str
    start: int
    """Position of the value in the address."""


def _pairs(address: str) -> Iterator[_Pair]:
    """Keys and values in the path and the query of an address, several in one part as well: user=a_password=b."""
    path = re.split("[?;#]", address, maxsplit=1)[0]
    pieces = [(piece, False) for piece in _PATH_PIECE.finditer(path)]
    pieces += [(piece, True) for piece in _QUERY_PIECE.finditer(address, len(path))]
    for piece, is_query in pieces:
        at = piece.start()
        for part in _NEXT_KEY.split(piece[0]):
            key, equals, value = part.partition("=")
            if equals:
                yield _Pair(key, value, at + len(key) + 1)
            elif is_query and "=" not in piece[0]:  # a part of the query without a key
                yield _Pair("", part, at)
            elif piece.start():  # a part of the path, which comes after the host
                for word in _PATH_WORD.finditer(part):
                    if looks_random(word[0]):
                        yield _Pair("token", word[0], at + word.start())
            at += len(part) + 1


def looks_random(word: str) -> bool:
    """Whether a part of a path is probably a token: long, and with frequent changes of character type.

    In a token, upper case, lower case and digits alternate; in names such as h264Preview_01_main and 1080p30fps they
    change less often.
    """
    letters = _SEPARATOR.sub("", unquote(word))
    if len(letters) < _SHORTEST_TOKEN or not letters.isalnum():
        return False
    if _HEX.fullmatch(letters) or (len(letters) > _LONGEST_WORD and letters in word):
        return True
    kinds = ["digit" if letter.isdigit() else "upper" if letter.isupper() else "lower" for letter in letters]
    changes = sum(one != other for one, other in pairwise(kinds))
    return changes > len(letters) / 3


def hide(*secrets: str) -> None:
    """Make `redact` replace these secrets everywhere: as written, percent-decoded and percent-encoded.

    Secrets of fewer than four characters are ignored, because they occur in too many words.
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
