"""The playground while an answer is on its way, and when another one comes than was hoped for."""

from __future__ import annotations

import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.browser.driver import missing
from tests.browser.playground import answers, open_playground, status
from tests.servers import kserve_server

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

# Answers under paths that end so wait in `held`, those of cancelled requests too: a network may be late with both.
HOLD = """
const path = arguments[0], real = window.fetch;
window.held = [];
window.signals = [];
window.fetch = async (url, options) => {
  const answer = await real(url, { ...options, signal: undefined });
  if (!url.endsWith(path)) return answer;
  window.signals.push(options.signal);
  return new Promise((resolve) => window.held.push(() => resolve(answer)));
};
"""
RELEASE = "window.held[arguments[0]](); return new Promise((resolve) => setTimeout(resolve, 100));"
ANSWER = """
const [body, status] = arguments;
window.fetch = async () => {
  if (status === 0) throw new TypeError("Failed to fetch");
  return new Response(body, { status });
};
"""


@pytest.fixture(scope="module")
def server(demo_mar, zoo, tmp_path_factory):
    store = tmp_path_factory.mktemp("several")
    for name, head in (("tags", "token_classification"), ("questions", "question_answering")):
        (store / name).symlink_to(zoo("bert", head), target_is_directory=True)
    with kserve_server(demo_mar, "--enable-repository", str(store), name="bert") as running:
        for name in ("tags", "questions"):
            running.client.post(f"{running.url}/v2/repository/models/{name}/load").raise_for_status()
        yield running


@pytest.fixture
def playground(browser, server):
    open_playground(browser, f"{server.url}/ui/")
    return browser


def choose(browser, name):
    Select(browser.find_element(By.ID, "model")).select_by_value(name)


def hold(browser, path):
    browser.execute_script(HOLD, path)


def release(browser, nth):
    WebDriverWait(browser, 30).until(lambda d: d.execute_script("return window.held.length") > nth)
    browser.execute_script(RELEASE, nth)


def write(browser, text):
    field = browser.find_element(By.ID, "field-text")
    field.clear()
    field.send_keys(text)


def fields(browser):
    return [field.get_attribute("id") for field in browser.find_elements(By.CSS_SELECTOR, "#fields textarea")]


def focused(browser):
    return browser.switch_to.active_element.get_attribute("id")


@pytest.mark.parametrize(("button", "path"), [("predict", "/infer"), ("explain", "/explain")])
def test_answers_stay_with_the_texts_they_are_of(playground, button, path):
    hold(playground, path)
    write(playground, "A warm film.\nNoise.")
    playground.find_element(By.ID, button).click()
    write(playground, "Another text")
    release(playground, 0)
    found = answers(playground)
    texts = [card.find_element(By.CLASS_NAME, "text").text.replace(" ", "") for card in found]
    assert texts == ["Awarmfilm.", "Noise."]
    assert status(playground).startswith("2 answers in")
    assert all(card.find_elements(By.CSS_SELECTOR, ".bars tr") for card in found)


def test_marks_stay_on_the_text_they_are_of(playground):
    choose(playground, "tags")
    WebDriverWait(playground, 30).until(lambda d: d.find_element(By.ID, "about").text)
    hold(playground, "/infer")
    write(playground, "Wolfgang lives in Berlin")
    playground.find_element(By.ID, "predict").click()
    write(playground, "No")
    release(playground, 0)
    (card,) = answers(playground)
    tags = "return arguments[0].querySelectorAll('small').forEach((tag) => tag.remove()), arguments[0].textContent"
    assert card.find_elements(By.TAG_NAME, "mark")
    assert playground.execute_script(tags, card) == "Wolfgang lives in Berlin"


def test_another_model_cancels_the_answer_of_the_one_before(playground):
    hold(playground, "/bert/infer")
    playground.find_element(By.ID, "predict").click()
    WebDriverWait(playground, 30).until(lambda d: d.execute_script("return window.held.length"))
    choose(playground, "questions")
    WebDriverWait(playground, 30).until(lambda d: fields(d) == ["field-question", "field-context"])
    release(playground, 0)
    assert playground.find_elements(By.CSS_SELECTOR, "#results article") == []
    assert status(playground) == ""
    assert playground.execute_script("return window.signals[0].aborted")
    playground.find_element(By.ID, "predict").click()
    assert len(answers(playground)) == 1


def test_the_model_chosen_last_is_the_one_shown(playground):
    hold(playground, "/questions")
    choose(playground, "questions")
    choose(playground, "bert")
    WebDriverWait(playground, 30).until(lambda d: fields(d) == ["field-text"])
    release(playground, 0)
    assert fields(playground) == ["field-text"]


def test_a_model_that_does_not_answer_has_no_fields_and_no_answers(playground):
    playground.find_element(By.ID, "predict").click()
    answers(playground)
    playground.execute_script(ANSWER, json.dumps({"error": "the server is stopping; try again"}), 503)
    choose(playground, "questions")
    WebDriverWait(playground, 30).until(lambda d: status(d) == "the server is stopping; try again")
    assert fields(playground) == []
    assert playground.find_element(By.ID, "about").text == ""
    assert playground.find_elements(By.CSS_SELECTOR, "#results article") == []
    assert not playground.find_element(By.ID, "code").is_displayed()


def test_the_focus_stays_where_it_is(playground):
    hold(playground, "/infer")
    playground.find_element(By.ID, "predict").send_keys(Keys.ENTER)
    WebDriverWait(playground, 30).until(lambda d: d.execute_script("return window.held.length"))
    assert focused(playground) == "predict"
    buttons = [playground.find_element(By.ID, name) for name in ("predict", "explain")]
    assert [button.get_attribute("aria-disabled") for button in buttons] == ["true", "true"]
    buttons[0].send_keys(Keys.ENTER)
    playground.find_element(By.ID, "field-text").send_keys(Keys.CONTROL, Keys.ENTER)
    assert playground.execute_script("return window.signals.length") == 1
    release(playground, 0)
    answers(playground)
    assert [button.get_attribute("aria-disabled") for button in buttons] == ["false", "false"]
    assert focused(playground) == "field-text"


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("", 0, "the server cannot be reached"),
        ("<html>Sign in</html>", 200, "the server's answer is broken off or is not JSON"),
        ("<html>Bad gateway</html>", 502, "the server answered with status 502"),
        ("null", 500, "the server answered with status 500"),
    ],
)
def test_it_is_said_what_failed(playground, body, code, message):
    playground.execute_script(ANSWER, body, code)
    playground.find_element(By.ID, "predict").click()
    WebDriverWait(playground, 30).until(lambda d: "…" not in status(d))
    assert status(playground) == message


def test_it_is_said_that_no_model_is_loaded(playground):
    playground.execute_script(ANSWER, json.dumps({"models": []}), 200)
    playground.execute_script("document.getElementById('access').hidden = false")
    playground.find_element(By.ID, "enter").click()
    WebDriverWait(playground, 30).until(lambda d: status(d) == "no model is loaded")


def test_refused_texts_are_counted(playground):
    refused = json.dumps({"error": "the text has 600 tokens, 512 are allowed", "status": 400})
    predict = {"name": "predict", "datatype": "BYTES", "shape": [2], "data": ["Accepted", refused]}
    playground.execute_script(ANSWER, json.dumps({"outputs": [predict]}), 200)
    playground.find_element(By.ID, "predict").click()
    assert len(answers(playground)) == 2
    assert status(playground).endswith(" ms, 1 with an error")
    assert [note.text for note in playground.find_elements(By.CSS_SELECTOR, "#results .note")] == [
        "the text has 600 tokens, 512 are allowed"
    ]


def test_typed_texts_outlast_a_change_of_the_model(playground):
    write(playground, "A warm film.")
    choose(playground, "questions")
    WebDriverWait(playground, 30).until(lambda d: fields(d) == ["field-question", "field-context"])
    choose(playground, "tags")
    WebDriverWait(playground, 30).until(lambda d: fields(d) == ["field-text"])
    assert playground.find_element(By.ID, "field-text").get_attribute("value") == "A warm film."
