"""The command and the webhook of the site: what they get, and that nothing of theirs hurts or leaks."""

from __future__ import annotations

import http.server
import json
import sys
import threading

import pytest
from processes import wait_until

from hpctrain.alerts.messenger import Messenger
from hpctrain.credentials.hide import hide_known
from hpctrain.errors import ProfileError
from hpctrain.profile.check import check_profile
from hpctrain.profile.sections.alerts import AlertsSection

MESSAGE = {"text": "run; rm -rf $HOME `id`\n'\"", "alert": "idle-gpu", "state": "raised", "value": 2.0, "seconds": None}
PATH = "/services/T0/B0/very-secret"


class Server(http.server.ThreadingHTTPServer):
    """Answers each post with the next of some codes, and keeps what came."""

    def __init__(self, *codes):
        self.codes, self.came = list(codes), []
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def address(self):
        return {"HPCTRAIN_ALERT_WEBHOOK": f"http://127.0.0.1:{self.server_address[1]}{PATH}"}


class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.came.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        code = self.server.codes.pop(0) if self.server.codes else 200
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self):
        self.server.came.append((self.path, b"GET"))

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(*codes):
        servers.append(Server(*codes))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def tell(limits, environment, *messages, pauses_s=(0.01, 0.01)):
    said: list[str] = []
    messenger = Messenger(limits, environment, pauses_s, said.append)
    for message in messages:
        messenger.tell(message)
    messenger.close(60.0)
    return said


def test_a_webhook_gets_the_alert_as_json_with_the_text_that_slack_shows(serve):
    server = serve()
    assert tell(AlertsSection(), server.address(), MESSAGE) == []
    [(path, body)] = server.came
    assert (path, json.loads(body)) == (PATH, MESSAGE)


def test_an_error_of_the_server_is_tried_again_and_a_refusal_is_not(serve):
    busy = serve(503, 429)
    messenger = Messenger(AlertsSection(), busy.address(), (0.01, 0.01), pytest.fail)
    messenger.tell(MESSAGE)
    wait_until(lambda: len(busy.came) == 3)
    messenger.close(60.0)
    refusing = serve(404, 404)
    said = tell(AlertsSection(), refusing.address(), MESSAGE, MESSAGE)
    assert len(refusing.came) == 2
    assert said == [
        "the webhook of $HPCTRAIN_ALERT_WEBHOOK did not take a message (HTTP 404); the run goes on, and this is said "
        "only once"
    ]


def test_a_redirect_is_not_followed(serve):
    server = serve(302)
    [said] = tell(AlertsSection(), server.address(), MESSAGE)
    assert "HTTP 302" in said
    assert [path for path, _ in server.came] == [PATH]


@pytest.mark.parametrize(
    "url", ["ftp://host/very-secret", "very-secret", "http://127.0.0.1:1/very-secret", "http://[very-secret", "http://"]
)
def test_an_address_that_does_not_work_is_never_shown(url):
    [said] = tell(AlertsSection(), {"HPCTRAIN_ALERT_WEBHOOK": url}, MESSAGE)
    assert "very-secret" not in said


def test_the_address_of_a_webhook_is_hidden_wherever_hpctrain_writes():
    url = "https://chat.example.org/hooks/very-secret"
    for name in ("HPCTRAIN_ALERT_WEBHOOK", "TEAM_WEBHOOK_URL"):
        assert hide_known(f"no answer from {url}", {name: url}) == f"no answer from [hidden: ${name}]"


def test_a_server_that_never_answers_ends_with_its_time():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        [said] = tell(AlertsSection(timeout_s=0.05), {"HPCTRAIN_ALERT_WEBHOOK": url}, MESSAGE, pauses_s=())
    assert "(no answer in time)" in said


def test_a_command_gets_json_and_variables_and_no_text_becomes_a_word_of_a_shell(tmp_path):
    program = "import os, sys; open(sys.argv[1], 'w').write(os.environ['HPCTRAIN_ALERT_TEXT'] + sys.stdin.read())"
    command = [sys.executable, "-S", "-c", program, str(tmp_path / "a b; c")]
    assert tell(AlertsSection(command=command), {}, MESSAGE) == []
    assert (tmp_path / "a b; c").read_text() == MESSAGE["text"] + json.dumps(MESSAGE) + "\n"


def test_a_command_that_fails_or_hangs_costs_one_line(tmp_path):
    [said] = tell(AlertsSection(command=["/bin/sh", "-c", "echo broken pipe >&2; exit 3"]), {}, MESSAGE, MESSAGE)
    assert "the command of alerts did not take a message (exit code 3: broken pipe)" in said
    [said] = tell(AlertsSection(command=["/bin/sleep", "600"], timeout_s=0.05), {}, MESSAGE, pauses_s=())
    assert "(no end within 0.05 s)" in said
    [said] = tell(AlertsSection(command=[str(tmp_path / "none")]), {}, MESSAGE)
    assert "none: No such file or directory" in said


def test_without_command_and_webhook_there_is_no_thread():
    before = threading.active_count()
    messenger = Messenger(AlertsSection(), {})
    messenger.tell(MESSAGE)
    assert not messenger.has_hearers
    assert threading.active_count() == before


def test_a_profile_names_the_variable_of_a_webhook_and_never_holds_its_address(tmp_path):
    profile = tmp_path / "profile.yaml"
    head = "name: a\ndata: {files: [a.h5], simulate: {}}\nlaunch: {gpus_per_node: 0}\nmonitor:\n  alerts:\n    "
    profile.write_text(head + "webhook_variable: https://hooks.slack.com/services/T0/B0/verysecret\n")
    with pytest.raises(ProfileError, match=r"line 6: monitor\.alerts\.webhook_variable") as error:
        check_profile(profile, memory=False).raise_problems()
    assert "verysecret" not in str(error.value)
