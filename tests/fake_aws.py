#!/usr/bin/env python3
"""The ``aws`` command for the tests, faked as a whole: buckets are folders, and jobs do what a file says.

``$FAKE_AWS`` is a folder: ``s3/BUCKET/...`` has the objects, ``jobs/NAME.json`` the requests as they were sent, and
``answers.json`` what ``describe-training-job`` says beside the request.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

HOME = Path(os.environ["FAKE_AWS"])


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def main() -> None:
    service, command, *words = sys.argv[1:]
    if (service, command) == ("sts", "get-caller-identity"):
        print(json.dumps({"Arn": "arn:aws:iam::123456789012:user/astro"}))
    elif (service, command) == ("s3", "cp"):
        assert words[0] == "-"
        path = HOME / "s3" / words[1].removeprefix("s3://")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sys.stdin.read())
    elif command == "create-training-job":
        request = json.loads(option("--cli-input-json"))
        path = HOME / "jobs" / f"{request['TrainingJobName']}.json"
        if path.exists():
            sys.exit("An error occurred (ResourceInUse) when calling CreateTrainingJob: Job name must be unique")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**request, "said": sys.argv[1:]}))
    elif command == "describe-training-job":
        path = HOME / "jobs" / f"{option('--training-job-name')}.json"
        if not path.exists():
            sys.exit("An error occurred (ValidationException): Requested resource not found.")
        answers = HOME / "answers.json"
        print(json.dumps(json.loads(path.read_text()) | (json.loads(answers.read_text()) if answers.exists() else {})))
    elif command == "stop-training-job":
        answers = {"TrainingJobStatus": "Stopping", "SecondaryStatus": "Stopping"}
        (HOME / "answers.json").write_text(json.dumps(answers))
    else:
        sys.exit(f"aws: error: unknown command {service} {command}")


main()
