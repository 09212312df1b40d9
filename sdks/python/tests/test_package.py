"""What the conformance runner does not reach: servers of the frameworks, the double, a fork, threads."""

import io
import os
import signal
import threading
import unittest
from wsgiref.util import setup_testing_defaults

from license_metering import Client, KeySet, normalize
from license_metering.testing import FakeClient
from license_metering.usage import UsageQueue
from license_metering.wsgi import LicenseMiddleware


class DoubleTests(unittest.TestCase):
    def test_an_application_is_tested_without_a_service(self):
        fake = FakeClient(features=["analytics"])
        seen = []

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(environ["license_metering.license"].features.has("analytics")).encode()]

        environ = {"HTTP_HOST": "shop.example", "wsgi.input": io.BytesIO()}
        setup_testing_defaults(environ)
        body = LicenseMiddleware(app, fake)(environ, lambda status, headers: seen.append(status))
        self.assertEqual((seen, b"".join(body), fake.asked), (["200 OK"], b"True", ["shop.example"]))
        fake.record("exports", 3, feature="pdf")
        self.assertEqual(fake.recorded[0]["quantity"], 3)


class UsageTests(unittest.TestCase):
    def test_a_child_process_sends_what_is_its_own_alone(self):
        sent = []
        queue = UsageQueue(lambda events, timeout: sent.extend(events) or [], 100, lambda problem: None)
        queue.record("lic_1", "exports", 1, 0, None, None)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # A child that hangs is a failure, and holds up nobody.
            queue.record("lic_1", "exports", 2, 0, None, None)
            queue.flush(5)
            os.write(write, repr([event["data"]["quantity"] for event in sent]).encode())
            os._exit(0)
        os.waitpid(child, 0)
        self.assertEqual(os.read(read, 100), b"[2]")
        self.assertTrue(queue.flush(5))
        self.assertEqual([event["data"]["quantity"] for event in sent], [1])

    def test_many_threads_lose_nothing(self):
        sent = []
        queue = UsageQueue(lambda events, timeout: sent.extend(events) or [], 100_000, lambda problem: None)

        def work():
            for _ in range(1000):
                queue.record("lic_1", "exports", 1, 0, None, None)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertTrue(queue.flush(10))
        self.assertEqual((len(sent), len({event["id"] for event in sent}), queue.statistics.sent), (8000, 8000, 8000))


class ArgumentTests(unittest.TestCase):
    def test_a_license_key_is_asked_for_by_its_text_alone(self):
        client = Client("http://127.0.0.1:9", keys='{"keys":[]}')
        for key in (None, "", "a\nb", 5, "x" * 8193):
            with self.assertRaises(ValueError):
                client.validate("example.com", key)

    def test_no_text_is_a_name_that_ends_a_process(self):
        for text in ("\ud800.example", "\0", "xn--" + "9" * 300, "ü" * 2000, "." * 1000):
            self.assertIsNone(normalize(text))

    def test_a_key_set_is_a_dict_too(self):
        self.assertEqual(KeySet({"keys": []}).keys, [])


if __name__ == "__main__":
    unittest.main()
