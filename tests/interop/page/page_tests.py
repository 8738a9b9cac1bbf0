"""The page of `vault ui`, as people and as web sites meet it."""

import datetime
import http.client
import re
import urllib.parse

from browser import FOREIGN, REBOUND, Browser
from checks import attempt, end, want
from fleet import GHOST, JECO, PRIVATE, STRIPE, Fleet
from host import wait
from hostile import Hostile
from views import views

fleet = Fleet()
browser = Browser().__enter__()
hostile = Hostile()
owner = browser.visitor()
first_link = fleet.link()
owner.open(first_link)
PAGE = owner.origin
VIEWS = views(fleet)
# Words that German has too, and what only names things.
BOTH = set("version versions alarm host hosts status name hook admin code rtx1080 thinkpad".split())
NAMES = "secret/|v[0-9]|[0-9]{4}-|\\.env"
# What Tab should reach, and where it is.
REACHABLE = """(() => {
    window.__stops = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")]
        .filter(it => it.checkVisibility() && !it.disabled);
    return window.__stops.length;
})()"""
FOCUSED = """(() => {
    const it = document.activeElement, style = getComputedStyle(it);
    const seen = (style.outlineStyle != "none" && parseFloat(style.outlineWidth) >= 1) || style.boxShadow != "none";
    return [window.__stops.indexOf(it), seen, window.__stops.every(it => it.isConnected)];
})()"""


def check(body):
    """Runs a check at its definition: at home in a fresh session, since of many the oldest end."""

    def at_home():
        owner.open(fleet.link())
        owner.faults.clear()
        body()

    attempt(body.__name__.replace("_", " "), at_home)
    return body


def request(method="GET", path="/", headers=None, body=None):
    """Asks the page's port without a browser; returns status, headers and body."""
    port = urllib.parse.urlsplit(PAGE).port
    there = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = dict(headers or {})
    try:
        there.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            there.putheader(name, value)
        if body is not None:
            there.putheader("Content-Length", str(len(body)))
        there.endheaders(body)
        answer = there.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode(errors="replace")
    finally:
        there.close()


def cookie(visitor=owner):
    return "; ".join(f"{it['name']}={it['value']}" for it in visitor.context.cookies(PAGE))


def tells_nothing(text, what=""):
    told = [word for word in PRIVATE if word in text.lower()]
    assert not told, f"{what} tells of {told}: {text[:200]}"


def is_refused(answer, what):
    status, headers, body = answer
    assert status in (400, 401, 403, 404, 405, 421, 429), f"{what}: {status}"
    assert "set-cookie" not in {name.lower() for name in headers}, f"{what}: a cookie"
    tells_nothing(body, what)


def visit(path="/", **how):
    """A visitor with a session of their own, at a view."""
    visitor = browser.visitor(**how)
    visitor.open(fleet.link())
    visitor.go(path)
    return visitor


# The five questions.


def row(tree, *words):
    """Returns the row of a table that holds all words."""
    found = [row for row in tree.rows() if all(word in row for word in words)]
    assert found, f"no row tells of {words}:\n" + "\n".join(tree.rows())
    return found[0]


@check
def which_host_is_behind():
    tree = owner.tree()
    behind = row(tree, "vps", "v1")
    assert re.search(r"behind|v1, not v2|lags", behind + tree.all()), behind
    assert "v2" in row(tree, "rtx1080"), "the page's own host is not behind"
    assert "thinkpad" in tree.all() and re.search(r"sleep", row(tree, "thinkpad")), "it sleeps, and is not missed"


@check
def since_when():
    since = next(it for it in fleet.rtx1080.status()["findings"] if it["code"] == "lags" and it["machine"] == "vps")["since"]
    told = owner.tree().all()
    assert since[11:16] in told, f"{since} is not told:\n{told}"


@check
def what_do_i_type():
    told = owner.tree().all()
    for finding in fleet.rtx1080.status()["findings"]:
        for command in re.findall(r"`([^`]+)`", finding["todo"]):
            assert command in told, f"`{command}` is not told:\n{told}"


@check
def who_read_the_stripe_key_last_night():
    owner.go("/")
    owner.page.get_by_role("navigation").get_by_role("link", name="Who reads").click()
    told = row(owner.tree(), "nightly-backup", STRIPE)
    read = next(it for it in fleet.records("--path", STRIPE) if it.get("who", "").startswith("nightly-backup"))
    night = datetime.datetime.fromtimestamp(read["time"] / 1_000_000, datetime.timezone.utc)
    assert night - fleet.night < datetime.timedelta(minutes=30), f"the read was at {night}"
    assert night.strftime("%Y-%m-%d %H:%M") in told, f"not when: {told}"
    assert "vps" in told, f"not where: {told}"


@check
def what_did_i_change_last():
    owner.go("/")
    owner.page.locator("a[href^='/change/']").first.click()
    told = owner.tree().all()
    assert "grafana" in told and "rtx1080" in told, told


# How it looks, and to whom.


@check
def every_view_has_a_name_a_heading_and_landmarks():
    titles = set()
    for name, path in VIEWS.items():
        owner.go(path)
        tree = owner.tree()
        for role in ("main", "navigation", "banner"):
            assert len(tree.of(role)) >= 1, f"{name}: no {role}"
        want(owner.page.locator("h1").count(), 1, f"{name}: h1")
        titles.add(owner.page.title())
        tables = owner.page.locator("table")
        for at in range(tables.count()):
            table = tables.nth(at)
            assert table.locator("caption").count() == 1, f"{name}: table {at} has no caption"
            assert table.locator("th").count() >= 1, f"{name}: table {at} has no headers"
    # The audit log is there twice, with a filter and without.
    want(len(titles), len(VIEWS) - 1, f"titles {titles}")


def axe_has_nothing_of_weight_to_say(lang, dark):
    for width in (1280, 320):
        with visit(lang=lang, dark=dark, width=width) as visitor:
            for name, path in VIEWS.items():
                visitor.go(path)
                found = visitor.axe()
                assert not found, f"{name} at {width}: " + "\n".join(found)


for lang in ("en", "de"):
    for dark in (False, True):
        shade = "dark" if dark else "light"
        attempt(f"axe has nothing of weight to say, {lang}, {shade}", lambda: axe_has_nothing_of_weight_to_say(lang, dark))


@check
def nothing_is_wider_than_320_pixels():
    for lang in ("en", "de"):
        with visit(lang=lang, width=320) as visitor:
            for name, path in VIEWS.items():
                visitor.go(path)
                wide = visitor.evaluate("document.scrollingElement.scrollWidth")
                assert wide <= 320, f"{name} in {lang}: {wide} px"


@check
def all_is_told_without_javascript():
    with visit(script=False) as visitor:
        for name, path in VIEWS.items():
            owner.go(path)
            visitor.go(path)
            with_script, without = owner.tree().names("heading", "columnheader"), visitor.tree().names("heading", "columnheader")
            want(without, with_script, name)
            again = visitor.page.get_by_role("link", name="Refresh").get_attribute("href")
            want(again, path, f"{name}: a link renews it")
        visitor.go("/")
        row(visitor.tree(), "vps", "v1")


@check
def german_is_whole():
    with visit(lang="de") as german:
        for name, path in VIEWS.items():
            owner.go(path)
            german.go(path)
            want(german.page.locator("html").get_attribute("lang"), "de", name)
            roles = ("heading", "columnheader", "button", "Caption", "caption")
            english = {word for word in owner.tree().names(*roles) if re.search("[a-z]{4}", word)}
            same = english & set(german.tree().names(*roles))
            same = {word for word in same if word.lower() not in BOTH and not re.search(NAMES, word)}
            assert not same, f"{name}: not in German: {same}"


@check
def the_language_is_switched_and_stays():
    with visit() as visitor:
        visitor.page.get_by_role("button", name="Deutsch").click()
        want(visitor.page.locator("html").get_attribute("lang"), "de")
        visitor.go("/machines")
        want(visitor.page.locator("html").get_attribute("lang"), "de", "on the next view")


def is_reached_by_tab(visitor, name):
    """Goes through a view by Tab; tells whether it stood still for that long."""
    visitor.evaluate("document.activeElement.blur()")
    due = visitor.evaluate(REACHABLE)
    seen = set()
    for _ in range(due + 5):
        visitor.page.keyboard.press("Tab")
        at, is_seen, is_still = visitor.evaluate(FOCUSED)
        if not is_still:
            return False
        assert at < 0 or is_seen, f"{name}: focus is not seen on {at}"
        seen.add(at)
    missed = set(range(due)) - seen
    assert not missed, f"{name}: Tab does not reach {missed} of {due}"
    return True


@check
def the_keyboard_reaches_all_and_sees_where_it_is():
    with visit() as visitor:
        for name, path in VIEWS.items():
            visitor.go(path)
            visitor.page.keyboard.press("Tab")
            first = visitor.evaluate("document.activeElement.getAttribute('href')")
            assert first and first.startswith("#"), f"{name}: the first stop is {first}, no way past the navigation"
            # The way is gone again where the page renews itself meanwhile.
            assert any(is_reached_by_tab(visitor, name) for _ in range(5)), f"{name}: never still"
        visitor.go("/")
        visitor.page.keyboard.press("Tab")
        visitor.page.keyboard.press("Enter")
        visitor.page.keyboard.press("Tab")
        inside = visitor.evaluate("!!document.activeElement.closest('main, footer')")
        assert inside, "past the navigation"


# What is told at once, and what it weighs.


@check
def a_change_is_seen_without_a_reload():
    with visit() as visitor:
        visitor.evaluate("window.__mark = 1")
        before = visitor.main()
        fleet.rtx1080.put(GHOST, "sk_live_ghost_2")
        fleet.rtx1080.put(JECO, "sk_live_jeco_3")
        visitor.until("document.querySelector('main').innerText.includes('v3')")
        assert visitor.main() != before
        want(visitor.evaluate("window.__mark"), 1, "the page was loaded anew")
        want(visitor.evaluate("performance.getEntriesByType('navigation').length"), 1)
        want(visitor.refused(), [], "refused by the policy")
        want(visitor.faults, [], "faults")


@check
def what_one_types_stays_when_the_log_grows():
    with visit("/audit") as visitor:
        told = "document.querySelector('main').innerText.split('secret/ghost').length"
        before = visitor.evaluate(told)
        fleet.rtx1080.put(GHOST, "sk_live_ghost_3")
        visitor.until(f"{told} > {before}")
        field = visitor.page.get_by_label("Process")
        field.fill("nightly*")
        fleet.rtx1080.put(GHOST, "sk_live_ghost_4")
        visitor.page.wait_for_timeout(2_000)
        want(field.input_value(), "nightly*")
        field.press("Enter")
        visitor.page.wait_for_url(lambda url: "process=" in url)
        row(visitor.tree(), "nightly-backup", STRIPE)


@check
def a_key_leads_to_what_became_of_it():
    with visit("/audit?key=STRIPE_*") as visitor:
        assert f"STRIPE_* is a key of {STRIPE}." in visitor.main(), visitor.main()
        row(visitor.tree(), "nightly-backup", STRIPE)


@check
def what_one_reads_stays_in_place_when_it_changes():
    with visit() as visitor:
        link = visitor.page.locator("main a").first
        link.focus()
        before = visitor.main()
        fleet.rtx1080.put(JECO, "sk_live_jeco_4")
        visitor.until("document.querySelector('main').innerText.includes('secret/j-jeco v4')")
        assert visitor.main() != before
        want(visitor.evaluate("document.activeElement.tagName"), "A", "focus")


@check
def nothing_is_refused_by_the_policy_and_nothing_complains():
    for script in (True, False):
        with visit(script=script) as visitor:
            for name, path in VIEWS.items():
                visitor.go(path)
                if script:
                    want(visitor.refused(), [], name)
                want(visitor.faults, [], name)


@check
def the_policy_is_the_strict_one():
    due = (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    for path in [*VIEWS.values(), "/no-such-view"]:
        _, headers, body = request(path=path, headers={"Cookie": cookie()})
        headers = {name.lower(): value for name, value in headers.items()}
        policy = {part.strip() for part in headers["content-security-policy"].split(";") if part.strip()}
        want(policy, set(due.split("; ")), path)
        want(headers["x-content-type-options"], "nosniff", path)
        want(headers["referrer-policy"], "no-referrer", path)
        assert "no-store" in headers["cache-control"], path
        want(headers["cross-origin-opener-policy"], "same-origin", path)
        want(headers["cross-origin-resource-policy"], "same-origin", path)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", body), f"{path}: something inline"


@check
def the_assets_are_small():
    assets = set()
    for path in VIEWS.values():
        page = request(path=path, headers={"Cookie": cookie()})[2]
        assets |= set(re.findall(r'<(?:link|script|img)[^>]* (?:href|src)="([^"]+)"', page))
    size = {asset: len(request(path=asset, headers={"Cookie": cookie()})[2].encode()) for asset in assets}
    script = sum(bytes for asset, bytes in size.items() if asset.endswith(".js"))
    assert 0 < script <= 3 * 1024, f"script of {script} bytes"
    assert script < sum(size.values()) <= 60 * 1024, f"assets of {size}"


@check
def a_value_is_shown_by_a_click_and_the_click_is_on_record():
    before = len(fleet.records("--path", STRIPE, "--op", "read"))
    with visit(VIEWS["secret"]) as visitor:
        assert "sk_live" not in visitor.page.content(), "before the click"
        want(len(fleet.records("--path", STRIPE, "--op", "read")), before, "looking at the view is no read")
        visitor.page.locator("main form[method=post] button").first.click()
        visitor.until("document.body.innerText.includes('sk_live_')")
        want(visitor.faults, [], "faults")
        records = fleet.records("--path", STRIPE, "--op", "read")
        assert len(records) == before + 1, "no record of it"
        visitor.go(VIEWS["secret"])
        assert "sk_live" not in visitor.page.content(), "after it"


# Who gets nothing.


@check
def a_link_opens_once():
    for headers in ({}, {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, {"Cookie": cookie()}):
        is_refused(request(path=urllib.parse.urlsplit(first_link).path, headers=headers), "a replayed link")
    with browser.visitor() as thief:
        thief.try_goto(first_link)
        tells_nothing(thief.content(), "a replayed link")
        thief.try_goto(PAGE + "/")
        tells_nothing(thief.content(), "after a replayed link")


@check
def a_guessed_link_opens_nothing():
    good = urllib.parse.urlsplit(fleet.link()).path
    token = good.rpartition("/")[2]
    swapped = token[:-1] + ("A" if token[-1] != "A" else "B")
    for guess in ("", "x", token[:-1], token + "x", swapped, token.swapcase(), "../" + token, "%00" * 32, "A" * 10_000):
        is_refused(request(path=f"/open/{guess}"), f"guess {guess[:20]}")
    # Guessing at length takes the link with it.
    for at in range(200):
        is_refused(request(path=f"/open/{at:064x}"), "a guess")
    is_refused(request(path=good), "the link after many guesses")
    with visit() as visitor:
        row(visitor.tree(), "vps")


@check
def without_the_cookie_there_is_nothing():
    name = cookie().partition("=")[0]
    for given in ("", f"{name}=", f"{name}=x", f"{name}=" + "A" * 43, "session=1", f"{name}x=" + cookie().partition("=")[2]):
        for path in [*VIEWS.values(), "/events", "/widget.json", "/badge.svg"]:
            is_refused(request(path=path, headers={"Cookie": given} if given else {}), f"{path} with `{given[:20]}`")


@check
def the_cookie_is_for_this_page_alone():
    kept = owner.context.cookies(PAGE)
    assert kept, "no cookie"
    for it in kept:
        if it["value"] in ("en", "de"):
            continue
        want((it["httpOnly"], it["sameSite"], it["path"]), (True, "Strict", "/"), it["name"])
        assert str(urllib.parse.urlsplit(PAGE).port) in it["name"], "cookies are shared by all ports of a host"
    owner.go("/")
    assert not owner.evaluate("document.cookie").strip(), "a script sees it"


@check
def a_rebound_name_gets_nothing():
    port = urllib.parse.urlsplit(PAGE).port
    others = (REBOUND, f"{REBOUND}:{port}", f"127.0.0.1.{FOREIGN}:{port}", f"localhost.:{port}")
    for name in (*others, f"127.0.0.1:{port + 1}", "127.0.0.1", f"[::1]:{port}", ""):
        for path in ("/", "/secrets", VIEWS["secret"], "/events", urllib.parse.urlsplit(fleet.link()).path):
            is_refused(request(path=path, headers={"Host": name, "Cookie": cookie()}), f"{path} as {name}")
    with browser.visitor() as rebound:
        rebound.try_goto(f"http://{REBOUND}:{port}/")
        tells_nothing(rebound.content(), "a rebound name")


@check
def a_foreign_origin_gets_nothing_even_with_the_cookie():
    foreign = (
        {"Origin": f"http://{FOREIGN}"},
        {"Origin": "null"},
        {"Origin": PAGE + "0"},
        {"Origin": PAGE.replace("http:", "https:")},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    )
    before = len(fleet.records("--path", STRIPE, "--op", "read"))
    for headers in foreign:
        gets = [("GET", path, None) for path in ("/", VIEWS["secret"], "/events")]
        for method, path, body in (*gets, ("POST", VIEWS["secret"], b"show=1")):
            is_refused(request(method, path, {**headers, "Cookie": cookie()}, body), f"{method} {path} from {headers}")
    status, headers, body = request("POST", VIEWS["secret"], {"Origin": PAGE, "Cookie": cookie()}, b"show=1")
    # The address that it has sent itself stands in the answer, and tells it nothing.
    is_refused((status, headers, body.replace(VIEWS["secret"], "")), "without the form's own word")
    want(len(fleet.records("--path", STRIPE, "--op", "read")), before, "a read")


def another_site_gets_nothing(name):
    owner.open(fleet.link())
    site = f"http://{name}:{hostile.port}"
    assets = [url for url, it in owner.served.items() if it.request.resource_type in ("stylesheet", "script", "image")]
    hostile.wants(PAGE, STRIPE, [*VIEWS.values(), "/events"], [*assets, PAGE + "/badge.svg"])
    before = len(fleet.records("--path", STRIPE, "--op", "read"))
    tab = owner.context.new_page()
    try:
        tab.goto(f"{site}/fetch")
        tab.wait_for_function("window.done")
        for what, kind, status, text in tab.evaluate("window.got"):
            want((kind in ("refused", "opaque"), text), (True, ""), f"{what}: {kind} {status}")
        for what, how, came in tab.evaluate("window.loaded"):
            want(came, "refused", f"{how} {what}")
        tab.goto(f"{site}/frame")
        tab.wait_for_timeout(500)
        for frame in tab.frames:
            tells_nothing(frame.content().replace(PAGE, ""), "a frame")
        tab.goto(f"{site}/form")
        tab.wait_for_timeout(500)
        tells_nothing(tab.content(), "a form")
        tab.goto(f"{site}/link")
        tab.click("#go")
        tab.wait_for_load_state()
        tells_nothing(tab.content(), "a link there")
    finally:
        tab.close()
    want(len(fleet.records("--path", STRIPE, "--op", "read")), before, "a read")


attempt("another site gets nothing", lambda: another_site_gets_nothing(FOREIGN))
attempt("another port of this host gets nothing", lambda: another_site_gets_nothing("127.0.0.1"))
attempt("another port under the name localhost gets nothing", lambda: another_site_gets_nothing("localhost"))


@check
def looking_changes_nothing():
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        is_refused(request(method, "/", {"Cookie": cookie()}), method)
    for path in (*VIEWS.values(), "/no-such-view", "/secret/../../etc/passwd", "/static/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"):
        status, _, body = request("GET", path, {"Cookie": cookie()})
        assert status in (200, 303, 400, 404), f"{path}: {status}"
        assert "root:" not in body


@check
def closed_is_closed():
    fleet.rtx1080.run("vault", "ui", "--close")

    def is_gone():
        try:
            return request()[0] in (401, 403, 404)
        except OSError:
            return True

    wait("the end of it", is_gone)
    with browser.visitor() as late:
        late.try_goto(PAGE + "/")
        tells_nothing(late.content(), "after the end")


browser.__exit__()
hostile.end()
fleet.end()
end()
