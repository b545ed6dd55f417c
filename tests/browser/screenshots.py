"""Pictures of the explanation page and of the playground: python -m tests.browser.screenshots FOLDER."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bert_handler import Predictor
from bert_handler.explanations.page import page
from bert_handler.packaging.demo_model import assemble
from tests.browser.driver import chromium, colour_scheme
from tests.servers import kserve_server
from tests.zoo import build

TEXTS = ["A warm, funny and beautifully acted film, if a little too long.", "Two hours of noise without a single idea."]


def main(folder: Path) -> None:
    """Write all pictures to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, chromium() as driver:
        demo = assemble(Path(scratch) / "demo")
        document = Path(scratch) / "why.html"
        document.write_text(page([item.content for item in Predictor.load(demo).explain(TEXTS)]), encoding="utf-8")
        for scheme in ("light", "dark"):
            colour_scheme(driver, scheme)
            driver.get(document.as_uri())
            driver.save_screenshot(str(folder / f"page-{scheme}.png"))
        models = [(demo, "classification"), (build("bert", "question_answering", Path(scratch) / "qa"), "answers")]
        models.append((build("bert", "token_classification", Path(scratch) / "ner"), "entities"))
        for model, name in models:
            with kserve_server(model, name=name) as server:
                for scheme in ("light", "dark"):
                    colour_scheme(driver, scheme)
                    driver.get(f"{server.url}/ui")
                    for button in ("predict", "explain"):
                        click(driver, button)
                        driver.save_screenshot(str(folder / f"{name}-{button}-{scheme}.png"))


def click(driver: object, button: str) -> None:
    """Press a button of the playground and wait for the answer."""
    wait = WebDriverWait(driver, 60)
    wait.until(lambda d: d.find_element(By.ID, "about").text)
    driver.find_element(By.ID, button).click()
    wait.until(lambda d: "ms" in d.find_element(By.ID, "status").text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
