"""The text that names a source: `LABEL=SOURCE#option=value,option=value`, and URLs as people type them.

    text     = [ label "=" ] source [ "#" option { "," option } ]
    label    = 1 to 40 letters of any alphabet, digits, blanks, "." "_" "-" "(" ")"; in front of a pipeline no blanks
    source   = camera number | device | "csi://" n | "picamera://" n | URL | pipeline | "synthetic" | file, folder, glob
    option   = key "=" value

What exists as a file or folder is that, whatever it looks like: `1#x.mp4`, `a=b.mp4`, a folder `2024`. A number that is
both a camera and a file is the camera; `./0` is the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from runtimes.errors import SourceError, UsageError
from runtimes.redaction import redact

PORTS = {
    "rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443,
    "srt": None, "udp": None, "rtp": None,
}  # fmt: skip
"""URL schemes that are read as a stream -> default TCP port."""
_LABEL = re.compile(r"(\w[\w .()-]{0,39})=(?=.)")
_PIPELINE_LABEL = re.compile(r"(\w[\w.()-]{0,39})=(?=.)")
PIPELINE = re.compile(r".+\s!\s", re.DOTALL)
"""GStreamer elements are joined by exclamation marks."""

_AUTHORITY_END = re.compile(r"[/?#]|$")
_HOST = re.compile(r"(.*\..*|\[.*\]|localhost)(:\d+)?", re.IGNORECASE)
"""A text that is certainly a host: an IP address, or a name with a dot."""


class SourceUrl(NamedTuple):
    """A URL for FFmpeg, and its host and port."""

    url: str
    """With user name and password percent-encoded."""
    scheme: str
    host: str
    port: int | None
    """None for schemes without a TCP port."""


def split_label(text: str) -> tuple[str, str]:
    """("door", "rtsp://...") of "door=rtsp://..."; the label is "" if there is none.

    A pipeline begins with an element and its properties, "v4l2src device=/dev/video0 ! ...", so its label contains no
    blank.
    """
    label = _PIPELINE_LABEL if PIPELINE.match(text) else _LABEL
    match = label.match(text)
    return (match[1], text[match.end() :]) if match else ("", text)


def split_options(text: str, known: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Split a source and its options: "0#size=1280x720,fps=30" is "0" and both options.

    Args:
        text: The source.
        known: Options of the source, with the expected value of each, for the message.

    Raises:
        UsageError: If an option is unknown.
    """
    # A password may contain "#" unescaped, so only the part after the credentials is searched.
    start = text.rfind("@") + 1
    address, _, fragment = text[start:].partition("#")
    options: dict[str, str] = {}
    for part in filter(None, re.split("[,&#]", fragment)):
        key, _, value = part.partition("=")
        if key not in known or not value:
            expected = ", ".join(f"{name}={what}" for name, what in known.items())
            what = repr(key) if value else "the text after the #"  # it may be a part of a password
            raise UsageError(f"{redact(text)}: {what} is not an option of this source; expected {expected}")
        options[key] = value
    return text[:start] + address, options


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of "1280x720", which is width x height as usual for cameras."""
    match = re.fullmatch(r"(\d{2,5})[xX](\d{2,5})", text)
    if match is None:
        raise UsageError(f"size={text}: expected width x height, such as 1280x720")
    return int(match[2]), int(match[1])


def parse_seconds(key: str, text: str) -> float:
    """A duration above 0, at most an hour."""
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise UsageError(f"{key}={text}: expected seconds, such as {key}=10")
    return seconds


def parse_rate(text: str, *, key: str = "fps") -> float:
    """Frames per second, above 0."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise UsageError(f"{key}={text}: expected frames per second, such as {key}=30")
    return rate


def parse_url(url: str) -> SourceUrl:
    """Parse a URL, its password with or without percent-encoding.

    Raises:
        SourceError: With the code "bad-address".
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in PORTS:
        raise _bad(url, f"unknown scheme; known are {', '.join(f'{name}://' for name in PORTS)}")
    authority, tail = _split_authority(rest)
    credentials, at, place = authority.rpartition("@")
    # The message must not contain the supposed host: it may be a part of the password.
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/?#\s]*)(?::(\d{1,5}))?", place)
    if match is None or not (match[1] or scheme in ("udp", "rtp")) or not 0 < int(match[2] or 1) < 65536:
        raise _bad(
            url, "expected scheme://user:password@host:port/path; in user and password, write / as %2F and @ as %40"
        )
    user, colon, password = credentials.partition(":")
    port = int(match[2]) if match[2] and PORTS[scheme] else PORTS[scheme]
    return SourceUrl(
        f"{scheme}://{_encode(user)}{colon}{_encode(password)}{at}{place}{tail}", scheme, match[1].strip("[]"), port
    )


def _split_authority(rest: str) -> tuple[str, str]:
    """Credentials and host, and the rest.

    The host begins after the last "@" before the first "/". If there is no host in that place, but one after a later
    "@", the "/" belongs to the password.
    """
    ends = [_AUTHORITY_END.search(rest, at) for at in dict.fromkeys((0, rest.rfind("@") + 1))]
    readings = [(rest[: end.start()], rest[end.start() :]) for end in ends if end]
    return next((r for r in readings if _HOST.fullmatch(r[0].rpartition("@")[2])), readings[0])


def _encode(text: str) -> str:
    """Percent-encode all characters that are not encoded yet."""
    return quote(re.sub(r"%(?![0-9a-fA-F]{2})", "%25", text), safe="%")


def _bad(url: str, why: str) -> SourceError:
    return SourceError(f"{redact(url)}: {why}", code="bad-address")
