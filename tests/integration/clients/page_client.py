"""Chromium on a server's page: `page_client.py URL CHROMIUM FOLDER` does what a person does and prints what it saw.

FOLDER gets a screenshot of each step. URL's server runs with --temp 0, so that its answers are known, and a context
that takes long to fill.
"""

import http.server
import importlib.metadata
import json
import sys
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

URL, CHROMIUM, SHOTS = sys.argv[1], sys.argv[2], Path(sys.argv[3])
PORT = urlsplit(URL).port
# No sandbox: tests may run as root. The rest keeps the browser from calling home.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP evil.example 127.0.0.1",
]  # fmt: skip
PARIS, TOKYO = "The capital of France is Paris.", "The capital of Japan is Tokyo."
WAIT = 60_000  # milliseconds


class Watched:
    """A page and everything that it asked for."""

    def __init__(self, browser, **settings):
        self.context = browser.new_context(**settings)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(WAIT)
        self.hosts, self.asked, self.failures = set(), [], []
        self.context.on("request", self._request)
        self.page.on("pageerror", lambda error: self.failures.append(str(error)))

    def _request(self, request):
        if not request.url.startswith(("data:", "blob:")):
            self.hosts.add(urlsplit(request.url).netloc)
        if request.url.endswith("/v1/chat/completions"):
            self.asked.append(json.loads(request.post_data))

    def open(self):
        self.page.goto(URL)
        self.page.locator("textarea").first.wait_for()
        self.page.get_by_role("button", name="Send").wait_for()

    def ask(self, text, answer):
        box = self.page.locator("textarea").first
        box.fill(text)
        if self.page.viewport_size["width"] < 600:
            self.page.get_by_role("button", name="Send").click()  # Enter is a new line there
        else:
            box.press("Enter")
        if answer:
            self.page.get_by_text(answer).last.wait_for()
            self.page.get_by_role("button", name="Send").wait_for()

    def shot(self, name):
        self.page.screenshot(path=SHOTS / f"{name}.png")


def talk(watched):
    """A question, its folded thinking, a second conversation, reload."""
    page, seen = watched.page, {}
    watched.open()
    page.wait_for_function("document.title !== 'llama-ui'")
    seen["title"] = page.title()
    watched.shot("1-empty")
    watched.ask("What is the capital of France?", PARIS)
    page.wait_for_function("document.title.startsWith('What is')")
    seen["chat_title"] = page.title()
    seen["sent"] = sorted(watched.asked[-1])
    fold = page.locator("[data-slot=collapsible-trigger]").last
    seen["folded"] = fold.get_attribute("aria-expanded")
    watched.shot("2-answer")
    fold.click()
    page.wait_for_function("document.querySelector('[data-slot=collapsible-trigger]').ariaExpanded === 'true'")
    thinking = page.locator("[data-slot=collapsible-content]").last
    thinking.wait_for()
    seen["thinking"] = thinking.inner_text()
    watched.shot("3-thinking-open")
    page.get_by_label("New chat").first.click()
    page.get_by_text(PARIS).wait_for(state="detached")
    watched.ask("What is the capital of Japan?", TOKYO)
    seen["second_sent"] = [message["content"] for message in watched.asked[-1]["messages"]]
    watched.shot("4-second-conversation")
    page.reload()
    page.get_by_text(TOKYO).last.wait_for()
    page.get_by_label("What is the capital of France?").first.click()
    page.get_by_text(PARIS).last.wait_for()
    watched.shot("5-after-reload")
    return seen


def attach(watched):
    """A text file goes along with the question."""
    file = SHOTS / "notes.txt"
    file.write_text("My name is Ada.\n")
    watched.open()
    watched.page.locator("input[type=file]").first.set_input_files(file)
    watched.page.get_by_text("notes.txt").first.wait_for()
    watched.shot("6-file-attached")
    with watched.page.expect_request("**/v1/chat/completions"):  # the file is read first
        watched.ask("What is the capital of France?", "")
    watched.page.get_by_role("button", name="Send").wait_for()
    watched.shot("7-file-sent")
    file.unlink()
    return json.dumps(watched.asked[-1]["messages"])


def change_temperature(watched):
    """The settings' temperature is what the next request carries."""
    page = watched.page
    watched.open()
    page.get_by_label("Settings").first.click()
    page.get_by_role("button", name="Sampling & Penalties").click()
    field = page.locator("#temperature")
    field.wait_for()
    offered = field.get_attribute("placeholder")
    field.fill("0.25")
    watched.shot("8-settings")
    page.get_by_role("button", name="Save settings").click()
    field.wait_for(state="detached")
    watched.ask("What is the capital of France?", PARIS)
    return {"offered": offered, "sent": watched.asked[-1].get("temperature")}


def stop(watched):
    """An answer without end is stopped; the engine stops as well."""
    page = watched.page
    watched.open()
    # The page's own setting for fields that it has no control for.
    page.evaluate(
        "localStorage.setItem('LlamaUi.config', JSON.stringify({...JSON.parse(localStorage.getItem('LlamaUi.config')"
        " || '{}'), customJson: JSON.stringify({ignore_eos: true, temperature: 0})}))"
    )
    watched.open()
    watched.ask("Count to fifty.", "")
    while not any(slot["is_processing"] for slot in slots()):  # llama.cpp forgets a stop that overtakes its question
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("button", name="Send").wait_for()
    watched.shot("9-stopped")
    while any(slot["is_processing"] for slot in slots()):
        page.wait_for_timeout(50)
    return max(slot.get("n_prompt_tokens", 0) for slot in slots())  # what was generated counts


def slots():
    with urllib.request.urlopen(URL + "/slots") as answer:
        return json.load(answer)


def look(browser, name, **settings):
    """The background's colour and how far the page is wider than its window."""
    watched = Watched(browser, **settings)
    watched.open()
    watched.ask("What is the capital of France?", PARIS)
    watched.shot(name)
    page = watched.page
    seen = {
        "background": page.evaluate("getComputedStyle(document.body).backgroundColor"),
        "overflow": page.evaluate("document.documentElement.scrollWidth - window.innerWidth"),
        "hosts": sorted(watched.hosts),
    }
    watched.context.close()
    return seen


ATTACK = """<!doctype html><title>elsewhere</title><img src="URL/v1/models"><iframe src="URL/"></iframe><script>
const tries = {
  read: () => fetch("URL/v1/models").then(r => r.status),
  simple: () => fetch("URL/v1/chat/completions", {method: "POST", mode: "no-cors",
                      body: '{"messages":[{"role":"user","content":"hi"}],"max_tokens":1}'}).then(r => r.type),
  json: () => fetch("URL/v1/chat/completions", {method: "POST", headers: {"Content-Type": "application/json"},
                    body: "{}"}).then(r => r.status),
};
window.go = async () => {
  const seen = {};
  for (const [name, work] of Object.entries(tries)) seen[name] = await work().catch(e => "refused");
  return seen;
};
</script>"""


def from_elsewhere(browser):
    """A page of another origin, and one whose name has been pointed at this machine (DNS rebinding)."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(ATTACK.replace("URL", URL).encode())

        def log_message(self, *_):
            pass

    other = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    page = browser.new_context().new_page()
    statuses = {}
    page.on(
        "response", lambda r: statuses.setdefault(f"{r.request.method} {urlsplit(r.url).path}", set()).add(r.status)
    )
    page.goto(f"http://127.0.0.1:{other.server_port}/")
    tried = page.evaluate("go()")
    page.wait_for_load_state("load")
    ours = {what: sorted(codes) for what, codes in statuses.items() if what not in ("GET /favicon.ico",)}
    rebound = page.goto(f"http://evil.example:{PORT}/v1/models")
    other.shutdown()
    return {"tried": tried, "statuses": ours, "rebound": rebound.status}


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    first = Watched(browser, viewport={"width": 1280, "height": 800}, color_scheme="light")
    phone = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
    print(
        json.dumps(
            {
                "version": importlib.metadata.version("playwright"),
                "browser": browser.version,
                "talk": talk(first),
                "attached": attach(first),
                "temperature": change_temperature(first),
                "tokens_when_stopped": stop(first),
                "hosts": sorted(first.hosts),
                "failures": first.failures,
                "light": look(browser, "10-light", viewport={"width": 1280, "height": 800}, color_scheme="light"),
                "dark": look(browser, "11-dark", viewport={"width": 1280, "height": 800}, color_scheme="dark"),
                "phone": look(browser, "12-phone", **phone),
                "elsewhere": from_elsewhere(browser),
            }
        )
    )
    browser.close()
