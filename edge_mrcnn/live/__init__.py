"""Everything around the camera loop: web page, metrics, messages, tracking, and running as a service.

All of it works on the device, without torch. The loop passes each frame on and continues. Drawing, encoding and sending
happen in other threads, each with bounded memory, so that nothing here can slow or stop the loop.
"""
