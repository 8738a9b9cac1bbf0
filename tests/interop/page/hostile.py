"""A web site that wants what the page shows: another origin, which frames, fetches, loads and posts to it."""

import http.server
import threading

FORM = """<!doctype html><title>hostile</title><body>
<form method=post action="{page}/secret/{path}"><input name=key value=STRIPE_SECRET_KEY><input name=show value=1></form>
<script>addEventListener("load", () => document.forms[0].submit())</script>"""
FETCH = """<!doctype html><title>hostile</title><body><script>
window.got = [];
const page = "{page}";
async function take(what, how) {{
    try {{
        const answer = await fetch(page + what, how);
        window.got.push([what, answer.type, answer.status, await answer.text()]);
    }} catch (why) {{ window.got.push([what, "refused", 0, ""]); }}
}}
function load(tag, url) {{
    return new Promise(done => {{
        const it = document.createElement(tag);
        it.onload = () => done([url, tag, "loaded"]);
        it.onerror = () => done([url, tag, "refused"]);
        if (tag == "link") {{ it.rel = "stylesheet"; it.href = url; }} else it.src = url;
        document.body.append(it);
    }});
}}
function follow(url) {{
    return new Promise(done => {{
        const events = new EventSource(url, {{ withCredentials: true }});
        events.onmessage = event => done([url, "events", event.data]);
        events.onopen = () => done([url, "events", "open"]);
        events.onerror = () => done([url, "events", "refused"]);
    }});
}}
(async () => {{
    for (const what of {paths}) {{
        await take(what, {{ credentials: "include" }});
        await take(what, {{ credentials: "include", mode: "no-cors" }});
        await take(what, {{ credentials: "include", method: "POST", headers: {{ "Content-Type": "text/plain" }}, body: "show=1" }});
    }}
    window.loaded = [];
    for (const asset of {assets}) {{
        window.loaded.push(await load(asset.endsWith(".css") ? "link" : asset.endsWith(".js") ? "script" : "img", asset));
    }}
    window.loaded.push(await follow(page + "/events"));
    window.done = true;
}})();
</script>"""
FRAME = """<!doctype html><title>hostile</title><body><iframe src="{page}/" width=800 height=600></iframe>"""
LINK = """<!doctype html><title>hostile</title><body><a id=go href="{page}/">free money</a>"""


class Hostile:
    """Serves hostile pages at a port of its own, under whatever name one comes by."""

    def __init__(self):
        self.pages = {}
        site = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                page = site.pages.get(self.path)
                self.send_response(200 if page else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write((page or "").encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wants(self, page, path, paths, assets):
        """Makes the pages that go for `page`, the origin of somebody's session."""
        import json

        words = {"page": page, "path": path, "paths": json.dumps(paths), "assets": json.dumps(assets)}
        for name, text in (("form", FORM), ("fetch", FETCH), ("frame", FRAME), ("link", LINK)):
            self.pages[f"/{name}"] = text.format(**words)

    def end(self):
        self.server.shutdown()
