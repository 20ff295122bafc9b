from __future__ import annotations

import logging

import pytest

from runtimes import redaction
from runtimes.redaction import SecretFilter, find_secrets, hide, redact


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Each test begins with no hidden secret."""
    monkeypatch.setattr(redaction, "_known", set())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:p@ss@host:554/live", "rtsp://user:***@host:554/live"),
        ("rtsp://user:pa/ss@host/live", "rtsp://user:***@host/live"),
        ("rtsp://user:pa?ss@host/live", "rtsp://user:***@host/live"),
        ("rtsp://user:p%40ss@host/live", "rtsp://user:***@host/live"),
        ("rtsp://first.last:secret@host/live", "rtsp://first.last:***@host/live"),
        ("http://host/video?password=secret&fps=5", "http://host/video?password=***&fps=5"),
        ("http://host/video?fps=5&Auth_Token=secret", "http://host/video?fps=5&Auth_Token=***"),
        ("rtsp://token@host/live", "rtsp://***@host/live"),
        (
            "rtsp://h/user=me_password=x_y_channel=1_stream=0.sdp",
            "rtsp://h/user=***_password=***_channel=1_stream=0.sdp",
        ),
        (
            "http://h/v.cgi?loginuse=me&loginpas=xyz&resolution=32",
            "http://h/v.cgi?loginuse=***&loginpas=***&resolution=32",
        ),
        ("http://h/v?pw=abc&p=1/2&fps=5", "http://h/v?pw=***&p=***&fps=5"),
        ("http://h/v?whatever=abc&channel=2", "http://h/v?whatever=***&channel=2"),
        ("rtspsrc location=rtsp://h/a user-pw=abc ! sink", "rtspsrc location=rtsp://h/a user-pw=*** ! sink"),
        ('rtspsrc user-pw="a b" proxy-pw=c ! sink', "rtspsrc user-pw=*** proxy-pw=*** ! sink"),
        ("http://h/?abc: refused", "http://h/?***: refused"),
        ("rtsp://h/live;pass:abc", "rtsp://h/live;***"),
        ("rtsp://h/x#abc", "rtsp://h/x#***"),
        ("rtsp://h/x#transport=udp,open=5", "rtsp://h/x#transport=udp,open=5"),
        (
            'souphttpsrc extra-headers="a,authorization=abc" cookies=abc ! sink',
            "souphttpsrc extra-headers=*** cookies=*** ! sink",
        ),
        ("rtspsrc user-pw = abc ! sink", "rtspsrc user-pw = *** ! sink"),
        ("u:abc@10.0.0.2:554/x", "u:***@10.0.0.2:554/x"),
        ("rtsp//u:abc@10.0.0.2/x", "rtsp//u:***@10.0.0.2/x"),
        ("rtsp://h/p=abc: nothing listens", "rtsp://h/p=***: nothing listens"),
        ("key=5 is no secret of a pipeline", "key=5 is no secret of a pipeline"),
        ("rtsp://host/live", "rtsp://host/live"),
        ("rtsps://10.0.0.1:7441/Nd8pXZkq0bfKfyrT?enableSrtp", "rtsps://10.0.0.1:7441/***?***"),
        ("http://h/5f4dcc3b5aa765d61d8327deb882cf99/live.m3u8: lost", "http://h/***/live.m3u8: lost"),
        ("rtsp://h/550e8400-e29b-41d4-a716-446655440000/1", "rtsp://h/***/1"),
        ("http://h/s/dGhpcyBpcyBh_c2VjcmV0-dG9rZW4.ts", "http://h/s/***.ts"),
        ("http://h/s/qwertyuiopasdfghjklzxcvbnmqwertyuiop", "http://h/s/***"),
        ("rtsp://4f9a0c1d2e3b4a5c.local/x", "rtsp://4f9a0c1d2e3b4a5c.local/x"),
        ("rtsp://h/h264Preview_01_main", "rtsp://h/h264Preview_01_main"),
        ("rtsp://h/Streaming/Channels/101/httpPreview", "rtsp://h/Streaming/Channels/101/httpPreview"),
        ("rtsp://h/axis-media/media.amp", "rtsp://h/axis-media/media.amp"),
        ("rtsp://h/cam1_h264_1080p_main_stream", "rtsp://h/cam1_h264_1080p_main_stream"),
        (
            "http://nas/2026-11-28_front-door_motion_clip_0001.mp4",
            "http://nas/2026-11-28_front-door_motion_clip_0001.mp4",
        ),
        ("lost 'rtsp://u:secret@a/1' and (mqtt://v:secret@b)", "lost 'rtsp://u:***@a/1' and (mqtt://v:***@b)"),
        ("3 of 4 @ 25 FPS: all well?", "3 of 4 @ 25 FPS: all well?"),
    ],
)
def test_secrets_of_urls_are_hidden_in_any_text(text, shown):
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://user:p%40ss/x@host/live",
        "http://host/v?password=p%40ss/x",
        "http://host/v?loginpas=p%40ss/x",
        "rtsp://host/user=admin_password=p%40ss%2Fx_channel=1",
        "rtspsrc location=rtsp://host user-pw=p%40ss/x ! fakesink",
    ],
)
def test_known_secrets_are_hidden_in_every_spelling(url):
    hide(*find_secrets(url))
    for spelling in ("p%40ss/x", "p@ss/x", "p%40ss%2Fx"):
        assert redact(f"401 for user with {spelling}!") == "401 for user with ***!"


def test_a_secret_too_short_to_be_told_from_a_word_is_left_to_the_form_of_the_url():
    hide("is")
    assert redact("this is rtsp://u:is@host") == "this is rtsp://u:***@host"


def test_logged_secrets_are_hidden_in_message_arguments_and_traceback(capsys):
    hide("topsecret")
    logger, handler = logging.getLogger("redaction test"), logging.StreamHandler()
    handler.addFilter(SecretFilter())
    logger.addHandler(handler)
    logger.propagate = False
    try:
        raise OSError("cannot open rtsp://user:pa@ss@host")
    except OSError:
        logger.exception("%s: %s", "http://host/?token=abc", {"password": "topsecret"})
    text = capsys.readouterr().err
    assert "Traceback" in text and "user:***@host" in text
    assert not any(secret in text for secret in ("topsecret", "pa@ss", "abc"))


def test_token_of_a_path_is_hidden_wherever_it_turns_up():
    hide(*find_secrets("rtsps://10.0.0.1:7441/Nd8pXZkq0bfKfyrT"))
    assert redact("no stream Nd8pXZkq0bfKfyrT there") == "no stream *** there"
