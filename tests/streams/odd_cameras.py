"""Cameras on 127.0.0.1 that violate standards in ways seen in real firmware.

`OddMjpeg` writes pictures over HTTP, `OddRtsp` an H.264 stream over RTSP with its packets inside the TCP connection
(RFC 2326, section 10.12; RFC 6184). Each takes the name of an oddity.
"""

from __future__ import annotations

import base64
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction

import av
import cv2
import numpy as np

WIDTH, HEIGHT = 320, 240


class TcpServer:
    """Takes connections, each in a thread, until it is closed."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.is_stopping = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._socket.accept()[0]
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            self.serve(connection)

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_stopping = True
        self._socket.close()


def make_jpeg(number: int, size_wh=(WIDTH, HEIGHT), *, is_grey: bool = False) -> bytes:
    """A picture with a bar that moves."""
    width, height = size_wh
    image = np.full((height, width) if is_grey else (height, width, 3), 90, np.uint8)
    image[:, number * 7 % (width - 20) :][:, :20] = 200
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def _part(head: bytes) -> Callable[[bytes, int], bytes]:
    """A part as most cameras write it, with this head."""
    return lambda jpeg, number: b"--frame\r\n" + head + b"\r\n" + jpeg + b"\r\n"


def _with_length(difference: int) -> Callable[[bytes, int], bytes]:
    def write(jpeg: bytes, number: int) -> bytes:
        return (
            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (len(jpeg) + difference)
            + jpeg
            + b"\r\n"
        )

    return write


def _empty_every_third(jpeg: bytes, number: int) -> bytes:
    if number % 3 == 0:
        return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 0\r\n\r\n\r\n"
    return _with_length(0)(jpeg, number)


PARTS: dict[str, Callable[[bytes, int], bytes]] = {
    "plain": _with_length(0),
    "boundary last": lambda jpeg, number: (
        b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n--frame\r\n"
    ),
    "image/jpg": _part(b"Content-Type: image/jpg\r\n"),
    "no part header": _part(b""),
    "length too long": _with_length(50),
    "length too short": _with_length(-50),
    "length zero": lambda jpeg, number: b"--frame\r\nContent-Length: 0\r\n\r\n" + jpeg + b"\r\n",
    "header of 300 characters": _part(b"Content-Type: image/jpeg\r\nX-" + b"a" * 300 + b": 1\r\n"),
    "empty part": _empty_every_third,
    "line feeds only": lambda jpeg, number: b"--frame\nContent-Type: image/jpeg\n\n" + jpeg + b"\n",
    "another boundary each time": lambda jpeg, number: (
        b"--b%d\r\nContent-Type: image/jpeg\r\n\r\n" % number + jpeg + b"\r\n"
    ),
    "no end marker": lambda jpeg, number: _with_length(0)(jpeg[:-2], number),
    "zeros behind": lambda jpeg, number: _with_length(0)(jpeg + bytes(200), number),
    "grey": lambda jpeg, number: _with_length(0)(make_jpeg(number, is_grey=True), number),
    "sizes change": lambda jpeg, number: _with_length(0)(
        make_jpeg(number, [(320, 240), (322, 238)][number // 5 % 2]), number
    ),
}
"""Oddity of the parts -> bytes that are written for a picture."""

_KIND = b"Content-Type: multipart/x-mixed-replace; boundary=frame"
HEADS = {
    "no status line": _KIND + b"\r\n\r\n",
    "ICY": b"ICY 200 OK\r\n" + _KIND + b"\r\n\r\n",
    "HTTP 1.0": b"HTTP/1.0 200 OK\r\n" + _KIND + b"\r\n\r\n",
    "quoted boundary": b'HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary="frame"\r\n\r\n',
    "dashes in the boundary": b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=--frame\r\n\r\n",
    "no boundary": b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\n\r\n",
    "octet stream": b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\n" + _KIND + b"\r\nTransfer-Encoding: chunked\r\n\r\n",
}
"""Oddity of the head -> the head."""


class OddMjpeg(TcpServer):
    """JPEG pictures over HTTP with an oddity: one of `PARTS`, `HEADS`, "redirect" or "single pictures"."""

    def __init__(self, oddity: str, fps: float = 15.0) -> None:
        self.oddity, self.fps = oddity, fps
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/video"

    def serve(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        if self.oddity == "redirect" and b"GET /moved" not in request:
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /moved\r\nContent-Length: 0\r\n\r\n")
            return
        if self.oddity == "single pictures":
            jpeg = make_jpeg(int(time.monotonic() * 10))
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg
            )
            return
        connection.sendall(HEADS.get(self.oddity, HEADS["HTTP 1.0"]))
        for number in range(1, 100_000):
            data = PARTS.get(self.oddity, PARTS["plain"])(make_jpeg(number), number)
            if self.oddity == "chunked":
                pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
                data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
            connection.sendall(data)
            if self.is_stopping:
                return
            time.sleep(1 / self.fps)


def encode_h264(count: int, *, key_every: int) -> list[list[bytes]]:
    """Access units of a moving bar, each a list of NAL units without start codes."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = WIDTH, HEIGHT, "yuv420p", Fraction(1, 25)
    codec.gop_size = key_every
    codec.options = {"tune": "zerolatency", "preset": "ultrafast", "sc_threshold": "0"}
    packets = []
    for number in range(count):
        image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        image[:, number * 7 % (WIDTH - 20) :][:, :20] = 200
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = number
        packets += codec.encode(frame)
    packets += codec.encode()
    return [[nal for nal in re.split(b"\0\0\0?\1", bytes(packet)) if nal] for packet in packets]


class OddRtsp(TcpServer):
    """H.264 over RTSP and TCP, without end.

    Args of `__init__`:
        fps: Frames a second.
        key_every: Frames between two key frames; the first client begins right behind one.
        silent_track: "audio" or "application": a track that is announced and never sends.
        is_udp_only: Whether TCP is refused, status 461.
        has_parameters: Whether the description holds the parameter sets.
    """

    def __init__(self, *, fps=25.0, key_every=25, silent_track="", is_udp_only=False, has_parameters=True) -> None:
        self.fps, self.silent_track = fps, silent_track
        self.is_udp_only, self.has_parameters = is_udp_only, has_parameters
        self.units = encode_h264(2 * key_every, key_every=key_every)
        self.transports: list[str] = []
        super().__init__()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def describe(self) -> str:
        """The session description, RFC 4566."""
        sets = {nal[0] & 31: base64.b64encode(nal).decode() for nal in self.units[0]}
        parameters = f";sprop-parameter-sets={sets[7]},{sets[8]}" if self.has_parameters else ""
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=camera", "t=0 0", "a=control:*"]
        lines += ["m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000"]
        lines += [f"a=fmtp:96 packetization-mode=1{parameters}", "a=control:track1"]
        if self.silent_track == "audio":
            lines += ["m=audio 0 RTP/AVP 97", "a=rtpmap:97 MPEG4-GENERIC/16000/1", "a=control:track2"]
            lines += [
                "a=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1408"
            ]
        if self.silent_track == "application":
            lines += ["m=application 0 RTP/AVP 107", "a=rtpmap:107 vnd.onvif.metadata/90000", "a=control:track3"]
        return "\r\n".join(lines) + "\r\n"

    def serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        target: tuple[str, int] | None = None
        while line := stream.readline():
            if line.startswith(b"$"):
                continue
            headers = {}
            while header := stream.readline().strip():
                key, _, value = header.decode().partition(":")
                headers[key.lower()] = value.strip()
            verb, number = line.split()[0].decode(), headers.get("cseq", "0")

            def respond(status="200 OK", extra="", body="", number=number):
                length = f"Content-Length: {len(body)}\r\n" * bool(body)
                connection.sendall(f"RTSP/1.0 {status}\r\nCSeq: {number}\r\n{extra}{length}\r\n{body}".encode())

            if verb == "DESCRIBE":
                base = line.split()[1].decode()
                respond(extra=f"Content-Base: {base}/\r\nContent-Type: application/sdp\r\n", body=self.describe())
            elif verb == "SETUP":
                transport = headers["transport"]
                self.transports.append(transport)
                if self.is_udp_only and "TCP" in transport:
                    respond("461 Unsupported Transport")
                    continue
                if ports := re.search(r"client_port=(\d+)", transport):
                    target = ("127.0.0.1", int(ports[1]))
                    transport += ";server_port=50000-50001"
                respond(extra=f"Transport: {transport}\r\nSession: 1;timeout=60\r\n")
            elif verb == "PLAY":
                respond(extra="Session: 1\r\n")
                threading.Thread(target=self._play, args=(connection, target), daemon=True).start()
            else:
                respond(extra="Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\nSession: 1\r\n")

    def _play(self, connection: socket.socket, target: tuple[str, int] | None) -> None:
        """Send access unit after access unit at its time; to a UDP address if there is one."""
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sequence, start = 0, time.monotonic()
        with suppress(OSError), datagrams:
            for number in range(1, 10**9):  # it begins right behind a key frame
                for payload, is_last in packetize(self.units[number % len(self.units)]):
                    stamp = int(90_000 * number / self.fps) & 0xFFFFFFFF
                    header = struct.pack(">BBHII", 0x80, 96 | is_last << 7, sequence & 0xFFFF, stamp, 0x1234)
                    sequence += 1
                    packet = header + payload
                    if target:
                        datagrams.sendto(packet, target)
                    else:
                        connection.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
                if self.is_stopping:
                    return
                time.sleep(max(0.0, start + number / self.fps - time.monotonic()))


def packetize(units: list[bytes], most: int = 1400) -> Iterator[tuple[bytes, bool]]:
    """RTP payloads of an access unit, and whether each is its last (RFC 6184, sections 5.6 and 5.8)."""
    for index, nal in enumerate(units):
        is_last_unit = index == len(units) - 1
        if len(nal) <= most:
            yield nal, is_last_unit
            continue
        body = nal[1:]
        for at in range(0, len(body), most):
            is_end = at + most >= len(body)
            flags = (0x80 if at == 0 else 0) | (0x40 if is_end else 0) | (nal[0] & 31)
            yield bytes([nal[0] & 0xE0 | 28, flags]) + body[at : at + most], is_last_unit and is_end
