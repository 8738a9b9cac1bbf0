"""Debian's Chromium, and what it says of a page: to the eye, to a screen reader, and to the one who looks for faults."""

import os
import pathlib

from host import wait
from playwright.sync_api import Error, sync_playwright

CHROMIUM = "/usr/bin/chromium"
AXE = (pathlib.Path(os.environ["CACHE"]) / "page/node_modules/axe-core/axe.min.js").read_text()
# Names of hosts that lead here: other sites, and one that is rebound to the page's own address.
FOREIGN, REBOUND = "evil.test", "rebound.test"
# Notes what the browser refuses for the page's policy.
WATCH = """
window.__refused = [];
addEventListener("securitypolicyviolation", event =>
    window.__refused.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`), true);
"""
SEEN = ("link", "button", "heading", "row", "cell", "rowheader", "columnheader", "StaticText", "textbox", "combobox")


class Browser:
    """One Chromium, in which each visitor has cookies of their own."""

    def __enter__(self):
        self.driver = sync_playwright().start()
        names = f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1, MAP {REBOUND} 127.0.0.1"
        self.chromium = self.driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", names])
        self.visitors = []
        return self

    def __exit__(self, *_):
        self.chromium.close()
        self.driver.stop()

    def visitor(self, **how):
        """Somebody new: `lang`, `dark`, `width` and `script` say how they look at it."""
        return Visitor(self.chromium, **how)


class Visitor:
    """A browser's profile with one tab, and all that was said against what it showed."""

    def __init__(self, chromium, lang="en", dark=False, width=1280, script=True):
        self.context = chromium.new_context(
            locale={"en": "en-GB", "de": "de-DE"}[lang],
            color_scheme="dark" if dark else "light",
            viewport={"width": width, "height": 800},
            java_script_enabled=script,
            timezone_id="UTC",
        )
        self.context.set_default_timeout(20_000)
        self.faults, self.served = [], {}
        self.page = self.context.new_page()
        self.page.add_init_script(WATCH)
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.faults.append(f"console: {said.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("response", self.note)
        self.devtools = self.context.new_cdp_session(self.page)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def note(self, response):
        self.served[response.url] = response
        if response.status >= 400:
            self.faults.append(f"{response.status} {response.url}")

    def open(self, link):
        """Opens a one-time link, and stays at the page's origin."""
        self.page.goto(link)
        self.origin = link.split("/open/")[0]

    def try_goto(self, address):
        """Goes where there may be nothing to see."""
        try:
            self.page.goto(address)
        except Error as why:
            assert "ERR_HTTP_RESPONSE_CODE_FAILURE" in why.message or "ERR_CONNECTION_REFUSED" in why.message, why

    def content(self):
        """What stands in the tab, once it stands."""

        def shown():
            try:
                return self.page.content()
            except Error as why:
                assert "is navigating" in why.message, why

        return wait("something to see", shown)

    def go(self, path):
        self.page.goto(self.origin + path)

    def evaluate(self, expression):
        """Evaluates in the page as its console does: the page's policy holds for the page, not for who looks at it."""
        how = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        came = self.devtools.send("Runtime.evaluate", how)
        assert "exceptionDetails" not in came, came["exceptionDetails"]
        return came["result"].get("value")

    def until(self, expression):
        """Waits until an expression holds in the page."""
        return wait(expression, lambda: self.page.wait_for_timeout(50) or self.evaluate(expression))

    def refused(self):
        """What the page's policy has refused so far on this page."""
        return self.evaluate("window.__refused")

    def tree(self):
        """The page as a screen reader has it: nodes with role, name, and the nodes below."""
        nodes = self.devtools.send("Accessibility.getFullAXTree")["nodes"]
        return Tree(nodes)

    def axe(self):
        """What axe finds that is serious or worse, one line each."""
        self.evaluate(AXE + "; 0")
        found = self.evaluate("axe.run(document, {preload: false, resultTypes: ['violations']})")
        grave = [it for it in found["violations"] if it["impact"] in ("serious", "critical")]
        return [f"{it['id']}: {node['html'][:120]} {node['failureSummary'][:200]}" for it in grave for node in it["nodes"]]

    def main(self):
        return self.page.locator("main").inner_text()


class Tree:
    """An accessibility tree."""

    def __init__(self, nodes):
        self.by_id = {node["nodeId"]: node for node in nodes}
        self.nodes = [node for node in nodes if not node.get("ignored")]

    @staticmethod
    def role(node):
        return node.get("role", {}).get("value", "")

    @staticmethod
    def name(node):
        return node.get("name", {}).get("value", "")

    def of(self, *roles):
        return [node for node in self.nodes if self.role(node) in roles]

    def names(self, *roles):
        return [self.name(node) for node in self.of(*roles)]

    def text(self, node):
        """All that is read aloud of a node and those below it."""
        if self.role(node) == "StaticText":
            return self.name(node)
        below = [self.by_id[child] for child in node.get("childIds", []) if child in self.by_id]
        told = " ".join(filter(None, (self.text(child) for child in below)))
        # An image, a control or a mark may be told by its name alone.
        return told or (self.name(node) if self.role(node) != "InlineTextBox" else "")

    def rows(self):
        """The rows of all tables, each as one line of text."""
        return [self.text(node) for node in self.of("row")]

    def all(self):
        """The whole page, a line for each node that says something."""
        return "\n".join(filter(None, self.names(*SEEN)))
