"""Try it: the verdict while one types is that of the tables after it is sent, and each copied text works."""

import os
import pathlib
import subprocess
import sys

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from playwright.sync_api import Page, expect

from tests.browser.conftest import Console, Visitor
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.check


def type_payload(page: Page, before: str, after: str) -> None:
    field = page.get_by_label("Payload")
    text = field.input_value()
    assert before in text
    field.fill(text.replace(before, after, 1))


def test_the_verdict_is_that_of_the_tables(visitor: Visitor) -> None:
    page = visitor.visit("/try?type=order")
    verdict = page.locator("#verdict .headline")
    expect(verdict).to_contain_text("good: it would be a row in dev_events_dataset.orders, by order.v1")
    type_payload(page, '"status"', '"state"')
    expect(verdict).to_contain_text("bad: it would be a dead letter of the stage contract")
    expect(page.locator("#verdict table")).to_contain_text("$.status")
    visitor.check()
    page.get_by_role("button", name="Send").click()
    page.locator("#sent a").click()
    expect(page.locator("main")).to_contain_text("Why it was rejected")
    expect(page.locator("main")).to_contain_text("$.status")
    visitor.check()


def test_unknown_fields_are_kept_and_named(tab: Visitor) -> None:
    page = tab.visit("/try?type=inventory")
    type_payload(page, "{", '{"reasons": ["a"], ')
    expect(page.locator("#verdict .warnings")).to_contain_text("Is it reason, misspelled?")
    expect(page.locator("#verdict")).to_contain_text("Unknown fields, in the column extras")
    page.get_by_label("event_id").fill("")
    expect(page.locator("#verdict .warnings")).to_contain_text("it is a second event")
    page.get_by_label("schema_version").fill("99")
    expect(page.locator("#verdict")).to_contain_text("attributes.schema_version")
    tab.check()


@pytest.mark.parametrize("text", ["as-shell", "as-python"])
def test_copied_texts_publish_the_event_and_find_it(console: Console, tab: Visitor, text: str) -> None:
    page = tab.visit("/try?type=user_activity")
    query = page.locator("#as-sql").text_content() or ""
    copied = page.locator(f"#{text}").text_content() or ""
    environment = console.stack.environment
    command = [sys.executable, "-c", copied] if text == "as-python" else ["sh", "-c", copied]
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command, env={**os.environ, **environment, "PATH": path}, timeout=PATIENCE, check=True)
    emulator = {"api_endpoint": environment["BIGQUERY_EMULATOR_HOST"]}
    client = bigquery.Client("sluice-local", AnonymousCredentials(), client_options=emulator)  # type: ignore[no-untyped-call]
    wait_until(lambda: len(list(client.query_and_wait(query))) == 1, "the query finds it", console.up.tail, pause=0.5)
