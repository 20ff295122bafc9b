"""What surrounds the camera loop: web page, metrics, messages, tracking and running as a service.

All of it works on the device: no torch. The loop hands each frame over and goes on; drawing, encoding and sending
happen in other threads, each with bounded memory, so that nothing here can slow it or stop it.
"""
