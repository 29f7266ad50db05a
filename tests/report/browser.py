"""A Chromium without a window, where there is one."""

import contextlib
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextlib.contextmanager
def chromium():
    """A browser of Playwright; skips the test, and says why, where no Chromium is installed."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the pages need playwright: pip install 'jaxseg-xai[test]'"
    )
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed (apt-get install chromium), so no page was opened")
    with playwright.sync_playwright() as driver:
        # Without the sandbox: root, as in containers, has none.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser, address, *, width=1280, **options):
    """A page with a case on it; errors of its JavaScript and requests to elsewhere are errors."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    page = context.new_page()
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("body[data-shown]")
    try:
        yield page
        assert errors == []
        own = (address.split("#")[0], "data:")
        assert [url for url in asked if not url.startswith(own)] == []
    finally:
        context.close()
