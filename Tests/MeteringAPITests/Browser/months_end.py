"""A month's end in a real browser: headless Chromium, by Playwright.

    months_end.py ADDRESS TOKEN LICENSE CUSTOMER MONTH FOLDER

Prints a line for everything that is not as it should be, and exits with 1 where there is one. The
folder gets the printed statement and, with METER_TEST_SCREENSHOTS, a picture of every page.
"""

import os
import re
import shutil
import sys
from urllib.parse import quote, urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

BASE, TOKEN, LICENSE, CUSTOMER, MONTH, FOLDER = sys.argv[1:]
SCREENSHOTS = os.environ.get("METER_TEST_SCREENSHOTS")
# WCAG 2.2 at level AA, with all that came before it.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
failures = []


def check(holds, what):
    if not holds:
        failures.append(what)


class Visit:
    """One window of the browser; notes what no page may do."""

    def __init__(self, browser, **settings):
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.page.on("console", lambda m: failures.append(f"console on {self.page.url}: {m.text}"))
        self.page.on("pageerror", lambda e: failures.append(f"script on {self.page.url}: {e}"))
        self.page.on("request", self.requested)

    def requested(self, request):
        if urlsplit(request.url).netloc != urlsplit(BASE).netloc:
            failures.append(f"a request to another host: {request.url}")

    def forgive(self, text):
        """The browser itself writes a message about an answer that is an error on purpose."""
        self.page.wait_for_load_state()
        failures[:] = [f for f in failures if not (f.startswith("console") and text in f)]

    def go(self, path):
        answer = self.page.goto(BASE + path)
        check(answer.status == 200, f"{path} answers {answer.status}")

    def title(self):
        return self.page.inner_text("h1")

    def sign_in(self):
        self.go("/")
        check("/sign-in" in self.page.url, "the overview asks who comes")
        self.page.fill("input[name=token]", TOKEN)
        self.page.click("main button")
        check(self.title() == "Overview", f"signing in leads to the overview, not {self.title()}")


def story(visit):
    """Find a license, look into its minutes, close, correct, print, sign out."""
    page = visit.page
    visit.sign_in()
    check(page.locator(".verdict .sentence").count() == 1, "the overview says one sentence first")
    check(page.locator(".chart svg.wide").count() >= 1, "the overview draws the hours")

    page.fill("#find", LICENSE)
    page.press("#find", "Enter")
    check(visit.title() == LICENSE, f"the search finds {LICENSE}, not {visit.title()}")
    page.click("nav.choices >> text=24 hours")
    check("range=last_24h" in page.url, "the address holds the range")
    figure = page.locator("figure.chart").last
    figure.locator("summary").click()
    figure.locator("tbody a").nth(-2).click()
    check("window=minute" in page.url, f"an hour leads to its minutes, not {page.url}")
    check("by minute" in page.inner_text("main"), "the minutes are drawn")

    download(visit, "/periods", "period_id")
    visit.go("/periods")
    check("can be closed" in page.inner_text(".verdict"), page.inner_text(".verdict"))
    page.click("form.stacked button:has-text('Close')")
    check("The periods are closed." in page.inner_text("main"), "the close is confirmed")
    check("Nothing is due" in page.inner_text(".verdict"), page.inner_text(".verdict"))

    page.click("summary:has-text('Record a correction')")
    form = page.locator("form[action$='/adjustments']")
    form.locator("[name=license_id]").fill(LICENSE)
    form.locator("[name=applies_to_period_start]").fill(f"{MONTH_BEFORE}-02")
    form.locator("[name=quantity]").fill("-7")
    form.locator("[name=reason]").fill("too many")
    form.locator("button").click()
    check("Nothing was changed." in page.inner_text("main"), "a wrong day is refused")
    visit.forgive("status of 400")
    page.click("text=Go to the form")
    check(form.locator("[name=reason]").is_visible(), "the refused form is open")
    check(form.locator("[name=quantity]").input_value() == "-7", "the refused form is filled in")
    form = page.locator("form[action$='/adjustments']")
    form.locator("[name=license_id]").fill(LICENSE)
    form.locator("[name=applies_to_period_start]").fill(f"{MONTH_BEFORE}-01")
    form.locator("[name=quantity]").fill("-7")
    form.locator("[name=reason]").fill("<b>seven too many</b>")
    form.locator("button").click()
    check("The correction is recorded." in page.inner_text("main"), page.inner_text("main")[:300])
    check("<b>seven too many</b>" in page.inner_text("main"), "the correction is listed as text")

    download(visit, f"/customers/{quote(CUSTOMER)}/statements/{MONTH}", "license_id")
    visit.go(f"/customers/{quote(CUSTOMER)}/statements/{MONTH}")
    check("closed" in page.inner_text(".title"), "the statement is closed")
    check(LICENSE in page.inner_text("main"), "the statement names the license")
    check("is signed" in page.text_content("main"), "the statement is signed")
    page.pdf(path=os.path.join(FOLDER, "statement.pdf"), format="A4")
    printed = open(os.path.join(FOLDER, "statement.pdf"), "rb").read()
    check(printed.startswith(b"%PDF") and len(printed) > 5_000, "the statement can be printed")

    page.click("text=Sign out")
    visit.go("/periods")
    check("/sign-in" in page.url, "signing out ends the session")


def download(visit, path, column):
    """The link to the CSV brings a file with this first column."""
    visit.go(path)
    with visit.page.expect_download(timeout=20_000) as started:
        visit.page.locator("text=Download as CSV").first.click()
    text = open(started.value.path()).read()
    check(text.startswith(column + ",") and text.count("\n") > 1, f"the CSV of {path}: {text[:200]}")


def keyboard(visit):
    """Everything by Tab and Enter alone."""
    page = visit.page
    visit.go("/sign-in")
    focused = "document.activeElement.getAttribute('name') || document.activeElement.className"
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "token":
            break
    check(page.evaluate(focused) == "token", "Tab leads to the token's field")
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url(BASE + "/")
    page.keyboard.press("Tab")
    check(page.evaluate(focused) == "skip", "the first Tab is the link to the content")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    check(page.evaluate(outline) == "solid", "what has the focus is seen")
    page.keyboard.press("Enter")
    check(page.evaluate("document.activeElement.id") == "content", "the link skips to the content")
    seen = set()
    for _ in range(200):
        page.keyboard.press("Tab")
        where = page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        if where in seen and "<body" in where:
            break
        seen.add(where)
        check(page.evaluate(outline) != "none" or "<body" in where, f"no focus is seen on {where}")
    check(len(seen) > 8, f"Tab reaches {len(seen)} places of the overview")


PATHS = [
    "/", "/licenses", f"/licenses/{quote(LICENSE, safe='')}", "/customers", f"/customers/{quote(CUSTOMER)}",
    "/periods", "/periods?status=closed", "/alerts", "/webhooks", "/events", "/dead-letters",
    "/audit", "/tokens", "/search?q=nothing", "/?time_zone=Europe%2FBerlin&refresh=60",
]  # fmt: skip


def every_page(browser, axe):
    """Each page: WCAG 2.2 AA, light and dark, and 360 pixels without scrolling sideways."""
    visit = Visit(browser, viewport={"width": 1280, "height": 900})
    visit.sign_in()
    page = visit.page
    for path in PATHS:
        page.emulate_media(color_scheme="light")
        visit.go(path)
        # Who asked for a page that reloads by itself can pause it, which the rule cannot see.
        options = {"runOnly": RULES, "rules": {"meta-refresh": {"enabled": False}}}
        found = axe.run(page, options=options).response["violations"]
        page.emulate_media(color_scheme="dark")
        found += axe.run(page, options={"runOnly": ["color-contrast"]}).response["violations"]
        for violation in found:
            where = violation["nodes"][0]["html"][:160]
            failures.append(f"axe on {path}: {violation['id']} at {where}")
        picture(page, path, "dark")
        page.emulate_media(color_scheme="light")
        picture(page, path, "light")
        page.set_viewport_size({"width": 360, "height": 800})
        wide = page.evaluate("document.documentElement.scrollWidth")
        check(wide <= 360, f"{path} is {wide} pixels wide where 360 are there")
        picture(page, path, "narrow")
        page.set_viewport_size({"width": 1280, "height": 900})
    for path in [f"/alerts/{href}" for href in first_id(visit, "/alerts", r"/alerts/(\d+)")]:
        visit.go(path)
        picture(page, path, "light")
    for path in [f"/deliveries/{i}" for i in first_id(visit, "/webhooks", r"/deliveries/(\d+)")]:
        visit.go(path)
        picture(page, path, "light")


def first_id(visit, path, pattern):
    visit.go(path)
    return re.findall(pattern, visit.page.content())[:1]


def picture(page, path, kind):
    if SCREENSHOTS:
        name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "overview"
        page.screenshot(path=f"{SCREENSHOTS}/{name}-{kind}.png", full_page=True)


def month_before(month):
    year, number = map(int, month.split("-"))
    return f"{year - (number == 1)}-{(number - 2) % 12 + 1:02}"


MONTH_BEFORE = month_before(MONTH)

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox"]
    )
    every_page(browser, Axe())
    keyboard(Visit(browser))
    story(Visit(browser))
    browser.close()

for failure in dict.fromkeys(failures):
    print(failure)
sys.exit(1 if failures else 0)
