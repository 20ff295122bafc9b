"""What a reading process does: decode one live source, keep the newest frame, give it away when it is asked.

A process of its own can be killed when a driver hangs. Beyond the standard library nothing is imported before the
camera has been reached, so that a vain attempt costs little; and nothing of the package around this folder ever, which
would bring OpenCV and more. So imports in here are relative, and errors are `Trouble`.

    main.py     the plan, the requests, the table of readers
    outlet.py   the accounts and the newest frame
    shots.py    a frame in the form in which it came, and what is made of it
    scaling.py  from planes of YUV to the small picture that a model reads
    network.py  streams by FFmpeg (PyAV, or OpenCV where that is not installed)
    web.py      a small HTTP client that takes what cameras send
    mjpeg.py    JPEG pictures out of an HTTP response
    camera.py   V4L2, GStreamer and picamera2
"""
