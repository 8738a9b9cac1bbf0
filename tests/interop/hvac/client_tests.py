"""Runs hvac's own KV v2 integration tests, as they stand in its source package, against this vault.

Usage: client_tests.py SDIST_DIR; VAULT_ADDR and VAULT_TOKEN name the vault. Those tests start a server of their
own; here a running one stands in for it. Each test gets a mount of its own, because version numbers are never
used twice, not even after a mount was emptied.
"""

import itertools
import os
import sys
import unittest

import hvac
import hvac.adapters

sys.path.insert(0, sys.argv[1])

import tests.utils  # noqa: E402
import tests.utils.hvac_integration_test_case as case  # noqa: E402


class Placed(hvac.adapters.JSONAdapter):
    """Sends what names the mount by heart to the mount of the test at hand."""

    mount = "kvv2"

    def request(self, method, url, *args, **kwargs):
        return super().request(method, url.replace("/v1/kvv2/", f"/v1/{Placed.mount}/"), *args, **kwargs)


class Running:
    """What hvac's tests ask of their server manager."""

    def __init__(self, **_):
        self.root_token = os.environ["VAULT_TOKEN"]
        self.client = hvac.Client(url=os.environ["VAULT_ADDR"], token=self.root_token, adapter=Placed)

    def start(self):
        pass

    initialize = unseal = stop = start


case.ServerManager = Running
# They ask the program `vault` in PATH; what counts is the API that answers.
tests.utils.get_vault_version_string.cache = Running().client.sys.read_health_status(method="GET")["version"]

from tests.integration_tests.api.secrets_engines import test_kv_v2  # noqa: E402

numbers = itertools.count(1)
made = test_kv_v2.TestKvV2.setUp


def set_up(self):
    self.DEFAULT_MOUNT_POINT = Placed.mount = f"kvv2-{os.getpid()}-{next(numbers)}"
    made(self)


test_kv_v2.TestKvV2.setUp = set_up


class Lines(unittest.TextTestResult):
    """One line a test, as every suite here prints them."""

    def startTest(self, test):
        unittest.TestResult.startTest(self, test)

    def _line(self, word, test):
        print(f"{word} {test.id().rsplit('.', 1)[1]}", flush=True)

    def addSuccess(self, test):
        unittest.TestResult.addSuccess(self, test)
        self._line("ok", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._line("not ok", test)

    def addError(self, test, err):
        super().addError(test, err)
        self._line("not ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line(f"not ok (skipped: {reason})", test)


suite = unittest.defaultTestLoader.loadTestsFromModule(test_kv_v2)
result = unittest.TextTestRunner(stream=sys.stderr, resultclass=Lines, verbosity=0).run(suite)
bad = len(result.failures) + len(result.errors) + len(result.skipped)
print(f"{result.testsRun - bad} passed, {bad} failed")
sys.exit(1 if bad or not result.testsRun else 0)
