"""The playground as a user has it before them: opened, asked, read."""

from __future__ import annotations

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait


def open_playground(browser, url):
    browser.get(url)
    WebDriverWait(browser, 30).until(lambda d: d.find_element(By.ID, "about").text)


def ask(browser, button, text):
    field = browser.find_element(By.ID, "field-text")
    field.clear()
    field.send_keys(text)
    browser.find_element(By.ID, button).click()
    return answers(browser)


def answers(browser):
    WebDriverWait(browser, 60).until(lambda d: " ms" in d.find_element(By.ID, "status").text)
    return browser.find_elements(By.CSS_SELECTOR, "#results article")


def complaints(browser):
    return [entry["message"] for entry in browser.get_log("browser") if "favicon" not in entry["message"]]


def status(browser):
    return browser.find_element(By.ID, "status").text
