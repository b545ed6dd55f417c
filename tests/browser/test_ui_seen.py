"""The playground on a phone, and in both colour schemes."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By

from tests.browser.driver import colour_scheme, missing
from tests.browser.playground import ask, open_playground

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

PHONE = {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": True}

# WCAG 2's contrast of a property's colour with the element's own background, seen over that of its card.
CONTRAST = """
const [seen, property] = arguments, canvas = document.createElement("canvas").getContext("2d");
const paint = (colour) => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); };
const luminance = () => [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
  .map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
paint(getComputedStyle(seen.closest(".card")).backgroundColor);
paint(getComputedStyle(seen).backgroundColor);
const behind = luminance();
paint(getComputedStyle(seen)[property]);
const [darker, lighter] = [behind, luminance()].sort((a, b) => a - b);
return (lighter + 0.05) / (darker + 0.05);
"""


@pytest.fixture
def phone(browser, kserve_host):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    open_playground(browser, f"{kserve_host.url}/ui/")
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def right(seen):
    return seen.rect["x"] + seen.rect["width"]


def test_a_phone_shows_bars_and_whole_controls(phone):
    (card,) = ask(phone, "explain", "A warm, funny and beautifully acted film.")
    assert card.find_element(By.CSS_SELECTOR, ".bar i").size["width"] > 60
    assert phone.execute_script("return document.documentElement.scrollWidth") == PHONE["width"]
    assert right(phone.find_element(By.ID, "method")) <= right(phone.find_element(By.ID, "field-text"))


def test_the_status_is_in_view_where_one_copies(phone):
    ask(phone, "predict", "A warm film.\nNoise.")
    buttons = phone.find_elements(By.CLASS_NAME, "copy")
    buttons[1].click()
    top = phone.execute_script("return document.getElementById('status').getBoundingClientRect().top")
    assert 0 <= top < PHONE["height"]
    assert [button.accessible_name for button in buttons] == ["Copy curl", "Copy Python"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_fields_stand_out(browser, kserve_host, scheme):
    colour_scheme(browser, scheme)
    open_playground(browser, f"{kserve_host.url}/ui/")
    (card,) = ask(browser, "explain", "Two hours of noise without a single idea.")
    for word in card.find_elements(By.CLASS_NAME, "word"):
        browser.execute_script("arguments[0].style.setProperty('--w', 1)", word)
        assert browser.execute_script(CONTRAST, word, "color") >= 4.5
    for field in browser.find_elements(By.CSS_SELECTOR, "#form textarea, #form input, #form select"):
        assert browser.execute_script(CONTRAST, field, "borderTopColor") >= 3
