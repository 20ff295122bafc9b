"""The page in a real browser: picture, slider, pause, token, a phone, and a lost camera."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest
from browser import CHROMIUM, Browser
from live_site import Moving, running

from edge_mrcnn.live.scenes import CONTINUED

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")

TOKEN = "correct horse"
HAS_PICTURE = "document.querySelector('.picture img')?.naturalWidth > 0"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def run():
    with running({"front door": Moving("a", fps=20), "yard": Moving("b", fps=20)}) as run:
        yield run


@pytest.fixture
def page(browser, run):
    """The page with its first picture."""
    browser.resize(1280, 900)
    browser.open(run.url)
    browser.wait(HAS_PICTURE)
    yield browser
    assert browser.complaints() == []


def text_of(page, selector):
    return page.run(f"document.querySelector({selector!r}).textContent")


def test_shows_each_source_with_its_picture_and_accounts(page):
    assert page.run("[...document.querySelectorAll('.name')].map(e => e.textContent)") == ["front door", "yard"]
    page.wait("document.querySelector('.state').textContent === 'live'")
    page.wait("parseFloat(document.querySelector('.fps').textContent) > 1")
    page.wait("[...document.querySelectorAll('#objects .label')].map(e => e.textContent).join() === 'cup,bottle'")
    assert text_of(page, "#health") == "processing" and text_of(page, "#model") == "toy"
    assert "inference" in text_of(page, "#stages") and text_of(page, "#delay").endswith(" ms")
    facts = page.run("Object.fromEntries([...document.querySelector('.facts').children].map(d => "
                     "[d.children[0].textContent, d.children[1].textContent]))")  # fmt: skip
    assert facts["Camera"].endswith("320×180") and int(facts["Processed"].replace("\u2009", "")) > 0


def test_page_says_down_to_which_score_tracked_objects_stay(page, run, monkeypatch):
    assert page.run("document.querySelector('#keep-conf').hidden")
    monkeypatch.setattr(run.site.scenes, "_is_tracked", True)
    page.wait("!document.querySelector('#keep-conf').hidden")
    percent = round(100 * CONTINUED * run.site.controls.conf)
    assert text_of(page, "#keep-conf") == f"Tracked objects stay in view down to {percent} %."


def test_one_source_of_several_that_is_away_is_named(page, run, monkeypatch):
    status = run.site.monitor.status
    lost = lambda: [replace(s, state="lost", error="nothing listens") if s.name == "yard" else s for s in status()]  # noqa: E731
    monkeypatch.setattr(run.site.monitor, "status", lost)
    page.wait("document.querySelector('#health').textContent === '1 of 2 offline'")
    page.wait("[...document.querySelectorAll('.veil')].map(e => e.textContent).join('|') === '|nothing listens'")


def test_counts_are_those_of_the_shown_picture(page, run, monkeypatch):
    monkeypatch.setattr(run.site.monitor, "objects", lambda source: Counter(cup=7))  # the newest frame is another one
    asked = "performance.getEntriesByType('resource').filter(e => e.name.endsWith('/api/state')).length"
    page.wait(f"{asked} > {page.run(asked) + 1}")
    assert text_of(page, "#total") == "4" and text_of(page, "#objects .value") == "2"


def test_picture_moves(page):
    before = page.run("document.querySelector('.picture img').src")
    page.wait(f"document.querySelector('.picture img').src !== {before!r}")


def test_slider_changes_the_threshold(page, run):
    page.run("document.querySelector('#conf').focus()")
    try:
        for _ in range(20):
            page.press("ArrowLeft")
        assert text_of(page, "#conf-value") == "0.30"
        page.wait("document.querySelector('#total').textContent === '6'")
        assert run.site.controls.conf == pytest.approx(0.3)
    finally:
        run.site.controls.conf = 0.5
    page.wait("document.querySelector('#conf-value').textContent === '0.50'")


def test_pause_stops_one_source_and_go_on_starts_it(page, run):
    states = lambda: [status.state for status in run.stream.status()]  # noqa: E731
    page.click(".pause")
    page.wait("document.querySelector('.state').textContent === 'paused'")
    assert states() == ["paused", "live"]
    assert page.run("document.querySelector('.pause').getAttribute('aria-pressed')") == "true"
    page.click(".pause")
    page.wait("document.querySelector('.state').textContent === 'live'")


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_fits_every_width(page, width):
    page.resize(width, 844, is_phone=width < 500)
    time.sleep(0.2)
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run("document.querySelector('.picture').getBoundingClientRect().top < 200")
    if width < 500:
        heights = page.run("[...document.querySelectorAll('.pause, #conf')].map(e => e.getBoundingClientRect().height)")
        assert min(heights) >= 40, "large enough for a finger"


def test_dark_and_light_follow_the_user(page):
    grounds = []
    for scheme in ("dark", "light"):
        page.prefer(scheme)
        page.wait(f"document.documentElement.dataset.theme === '{scheme}'")
        grounds.append(page.run("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]
    page.click("#theme")
    assert page.run("document.documentElement.dataset.theme") == "dark"
    page.run("localStorage.clear()")


def test_pictures_are_not_fetched_while_the_page_is_hidden(page, run):
    page.open("about:blank")
    time.sleep(0.3)
    asked = []
    wait = run.site.encoder.wait
    run.site.encoder.wait = lambda *a: asked.append(1) or wait(*a)
    time.sleep(1)
    run.site.encoder.wait = wait
    assert not asked


def test_the_token_is_asked_for_and_opens_the_page(browser):
    with running(token=TOKEN) as locked:
        browser.open(locked.url)
        browser.wait("!document.querySelector('#login').hidden && document.querySelector('#live').hidden")
        fill = "document.querySelector('#token').value = {!r}; document.querySelector('#login').requestSubmit()"
        browser.run(fill.format("wrong token"))
        browser.wait("document.querySelector('#login-error').textContent === 'the token is wrong'")
        browser.run(fill.format(TOKEN))
        browser.wait(HAS_PICTURE)
        assert browser.run("document.querySelector('#login').hidden && document.cookie === ''")
        browser.open("about:blank")
    browser.events.clear()  # refusals are logged as errors, and were asked for


def test_removed_camera_is_noticed_and_lost_one_is_named(browser):
    with running() as run:
        browser.open(run.url)
        browser.wait(HAS_PICTURE)
        while not run.site.monitor.has_result:  # the picture may be there first
            time.sleep(0.01)
        run.site.monitor.put = lambda *_: None
        run.site.monitor._clock = lambda: time.monotonic() + 60
        browser.wait("document.querySelector('#alarm').textContent.includes('no frame for ')")
        assert text_of(browser, "#health") == "not processing"
    browser.wait("document.querySelector('#health').textContent === 'no connection'")
    assert "No connection" in text_of(browser, "#alarm")
    browser.open("about:blank")
    browser.events.clear()
