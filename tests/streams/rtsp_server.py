"""An RTSP server for tests, by the system's Python: rtsp_server.py PORT WxH FPS CODEC USER:PASSWORD BUSY CERTIFICATE.

Every picture carries the monotonic clock in milliseconds, as 32 cells in its top rows.
"""

import os
import sys
import time
from urllib.parse import unquote

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtspServer  # noqa: E402

CELLS, CELL_ROWS = 32, 16
ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps} bitrate=1500"
    " ! video/x-h264,profile=baseline ! rtph264pay name=pay0 pt=96 config-interval=1",
    "mjpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
}


def main() -> None:
    port, size, fps, codec, login, busy, certificate = sys.argv[1:8]
    width, height = map(int, size.split("x"))
    Gst.init(None)
    caps = f"video/x-raw,format=BGR,width={width},height={height},framerate={fps}/1"
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( appsrc name=s is-live=true block=true format=time do-timestamp=true caps={caps} ! videoconvert "
        f"! video/x-raw,format=I420 ! {ENCODERS[codec].format(fps=fps)} )"
    )
    factory.set_shared(True)
    factory.connect("media-configure", lambda _, media: feed(media, width, height, float(fps), busy))
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    auth = GstRtspServer.RTSPAuth()
    if login:
        protect(auth, factory, *map(unquote, login.split(":")))
    if certificate:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(certificate))
    if login or certificate:
        server.set_auth(auth)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


def protect(auth, factory, user, password) -> None:
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    structure = Gst.Structure.new_from_string(
        "user, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    )
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role_from_structure(structure)
    factory.set_permissions(permissions)


def feed(media, width: int, height: int, fps: float, busy: str) -> None:
    """Push a stamped picture per period while the media plays: plain, or coarse noise that fills many packets."""
    source = media.get_element().get_by_name_recurse_up("s")
    rest = b"\x5a" * (3 * width * (height - CELL_ROWS))

    def push() -> bool:
        below = noise(width, height - CELL_ROWS) if busy else rest
        source.emit("push-buffer", Gst.Buffer.new_wrapped(stamp(width) * CELL_ROWS + below))
        return True

    timer = GLib.timeout_add(int(1000 / fps), push)
    media.connect("unprepared", lambda _: GLib.source_remove(timer))


def noise(width: int, rows: int) -> bytes:
    """Grey blocks of 8 x 8 by chance."""
    bands = [b"".join(bytes([grey]) * 24 for grey in os.urandom(width // 8)) for _ in range(rows // 8 + 1)]
    return b"".join(band * 8 for band in bands)[: 3 * width * rows]


def stamp(width: int) -> bytes:
    now = int(time.monotonic() * 1000)
    cell = width // CELLS
    row = b"".join((b"\xff" if now >> bit & 1 else b"\0") * (3 * cell) for bit in range(CELLS))
    return row.ljust(3 * width, b"\0")


if __name__ == "__main__":
    main()
