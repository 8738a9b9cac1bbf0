"""The views of the page, by name, with something to see on each."""

from fleet import STRIPE


def views(fleet):
    """Returns the path of each view."""
    return {
        "fleet": "/",
        "change": f"/change/{fleet.newest_entry()}",
        "secrets": "/secrets",
        "secret": f"/secret/{STRIPE}",
        "readers": "/readers",
        "audit": "/audit",
        "filtered": f"/audit?path={STRIPE}&op=read",
        "machines": "/machines",
        "alarms": "/alarms",
    }
