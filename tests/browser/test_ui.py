"""The page and the playground in a real browser."""

from __future__ import annotations

import http.server
import threading
import urllib.request

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from bert_handler import Predictor
from bert_handler.explanations.page import page
from tests.browser.driver import colour_scheme, missing
from tests.browser.playground import answers, ask, complaints, open_playground, status
from tests.servers import kserve_server

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

NASTY = "A warm film <script>document.title='broken'</script> & <img src=x onerror=document.title='broken'>"


@pytest.fixture(scope="module")
def server(kserve_host):
    return kserve_host


def test_labels_have_score_bars(browser, server):
    open_playground(browser, f"{server.url}/ui")
    found = ask(browser, "predict", "A warm, funny film.\nNoise without an idea.")
    assert len(found) == 2
    labels = [head.text for head in found[0].find_elements(By.TAG_NAME, "th")]
    assert labels == ["Accepted", "Not Accepted"]
    assert found[0].find_elements(By.CSS_SELECTOR, ".bar i")[0].size["width"] > 100
    assert "2 answers in" in browser.find_element(By.ID, "status").text
    assert complaints(browser) == []


@pytest.mark.parametrize("button", ["predict", "explain"])
def test_typed_markup_shows_as_text(browser, server, button):
    open_playground(browser, f"{server.url}/ui/")
    (found,) = ask(browser, button, NASTY)
    assert "<script>document.title" in found.text.replace(" ", "")
    assert found.find_elements(By.CSS_SELECTOR, "script, img") == []
    assert browser.title == "bert-handler playground"
    assert "<script>" in browser.find_element(By.ID, "curl").text
    assert complaints(browser) == []


def test_an_explanation_appears_as_a_heat_map(browser, server):
    open_playground(browser, f"{server.url}/ui/")
    (found,) = ask(browser, "explain", "A warm, funny and beautifully acted film.")
    words = found.find_elements(By.CSS_SELECTOR, ".word")
    assert [word.text for word in words][:3] == ["A", "warm", ","]
    assert words[1].get_attribute("title").startswith("+")
    assert words[1].value_of_css_property("background-color") != words[2].value_of_css_property("background-color")
    assert found.find_element(By.TAG_NAME, "h2").text == "Accepted"
    browser.find_element(By.ID, "target").send_keys("Not Accepted")
    Select(browser.find_element(By.ID, "method")).select_by_value("feature_ablation")
    browser.find_element(By.ID, "explain").click()
    (found,) = answers(browser)
    WebDriverWait(browser, 30).until(lambda d: d.find_element(By.CSS_SELECTOR, "#results h2").text == "Not Accepted")
    assert "feature ablation" in browser.find_element(By.CSS_SELECTOR, "#results .facts").text


def test_an_error_is_shown_and_the_keyboard_is_enough(browser, server):
    open_playground(browser, f"{server.url}/ui/")
    browser.find_element(By.ID, "target").send_keys("Akzepted", Keys.CONTROL, Keys.ENTER)
    assert len(answers(browser)) == 2
    browser.find_element(By.ID, "explain").send_keys(Keys.ENTER)
    WebDriverWait(browser, 30).until(lambda d: "unknown label" in d.find_element(By.ID, "results").text + status(d))
    controls = browser.find_elements(By.CSS_SELECTOR, "textarea, input, select, button")
    shown = [control for control in controls if control.is_displayed()]
    assert len(shown) > 4
    for control in shown:
        assert control.accessible_name, control.get_attribute("outerHTML")


def test_truncation_is_said(browser, server):
    open_playground(browser, f"{server.url}/ui/")
    ask(browser, "predict", "good film " * 400)
    assert "1 of the texts cut" in status(browser)


def test_it_works_behind_a_path_prefix(browser, server):
    class Gateway(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("content-length", 0))
            body = self.rfile.read(length) if length else None
            if not self.path.startswith("/team/bert/"):
                self.send_error(404)
                return
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Quiet)
            asked = urllib.request.Request(
                server.url + self.path[len("/team/bert") :], body, {"Content-Type": "application/json"}
            )
            with opener.open(asked) as answer:
                self.send_response(answer.status)
                for name in ("content-type", "location", "content-security-policy"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.end_headers()
                self.wfile.write(answer.read())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    class Quiet(urllib.request.HTTPRedirectHandler):
        def http_error_307(self, request, answer, *args):
            return answer

    gateway = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=gateway.serve_forever, daemon=True).start()
    try:
        open_playground(browser, f"http://127.0.0.1:{gateway.server_port}/team/bert/ui")
        assert len(ask(browser, "predict", "A warm, funny film.")) == 1
        assert "/team/bert/v2/models/bert/infer" in browser.find_element(By.ID, "curl").text
    finally:
        gateway.shutdown()
        gateway.server_close()


def test_headers_forbid_everything_from_elsewhere(server):
    response = server.get("/ui/")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in response.text
    assert not any(f" {name}=" in response.text for name in ("style", "onclick", "onload"))
    assert server.get("/ui/../routes.py").status_code == 404
    assert server.get("/ui/app.py").status_code == 404


def test_it_can_be_switched_off(demo_dir):
    with kserve_server(demo_dir, "--no-ui") as server:
        assert server.get("/ui").status_code == 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_from_a_file(browser, demo_dir, tmp_path, scheme):
    documents = [item.content for item in Predictor.load(demo_dir, device="cpu").explain([NASTY, "Noise."], n_steps=8)]
    path = tmp_path / "why.html"
    path.write_text(page(documents), encoding="utf-8")
    colour_scheme(browser, scheme)
    complaints(browser)  # those of other tests are read away
    browser.get(path.as_uri())
    assert browser.title == "Which words decided"
    assert len(browser.find_elements(By.CSS_SELECTOR, ".bh-card")) == 2
    assert browser.find_elements(By.CSS_SELECTOR, "script, img") == []
    assert complaints(browser) == []
    background = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert (sum(int(part) for part in background.strip("rgba()").split(",")[:3]) > 380) == (scheme == "light")


def test_a_guarded_server_is_asked_with_a_token(browser, demo_dir):
    with kserve_server(demo_dir, name="bert", BERT_HANDLER_TOKENS="a-token-of-some-length") as guarded:
        browser.get(f"{guarded.url}/ui/")
        WebDriverWait(browser, 30).until(lambda d: d.find_element(By.ID, "token").is_displayed())
        browser.find_element(By.ID, "token").send_keys("a-token-of-some-length", Keys.ENTER)
        WebDriverWait(browser, 30).until(lambda d: d.find_element(By.ID, "about").text)
        assert len(ask(browser, "predict", "A warm, funny film.")) == 1
        assert "a-token-of-some-length" not in browser.find_element(By.ID, "curl").text
        complaints(browser)  # the refusal before the token
        browser.get("about:blank")
