#!/usr/bin/env python3
"""The ``aws`` command for the tests, faked as a whole: buckets are folders, and jobs do what a file says.

``$FAKE_AWS`` is a folder: ``s3/BUCKET/...`` has the objects, ``jobs/NAME.json`` the requests as they were sent, and
``answers.json`` what ``describe-training-job`` says beside the request.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import sys
from itertools import pairwise
from pathlib import Path

HOME = Path(os.environ["FAKE_AWS"])


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def bucket(address: str) -> str:
    return address.removeprefix("s3://").partition("/")[0]


def there(address: str) -> Path:
    return HOME / "s3" / address.removeprefix("s3://")


def sync(here: Path, target: Path, words: list[str]) -> None:
    """Copy files; of the filters, which have patterns of whole names, the last one that fits decides."""
    filters = [(word, pattern) for word, pattern in pairwise(words) if word in ("--exclude", "--include")]
    for path in (path for path in here.rglob("*") if path.is_file()):
        name = path.relative_to(here).as_posix()
        fitting = ["--include", *(word for word, pattern in filters if fnmatch.fnmatchcase(name, pattern))]
        if fitting[-1] == "--include":
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def main() -> None:
    service, command, *words = sys.argv[1:]
    if (service, command) == ("sts", "get-caller-identity"):
        print(json.dumps({"Arn": "arn:aws:iam::123456789012:user/astro"}))
    elif (service, command) == ("s3", "cp"):
        path = there(words[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sys.stdin.buffer.read() if words[0] == "-" else Path(words[0]).read_bytes())
    elif (service, command) == ("s3", "ls"):
        assert words[0] == "--recursive"
        found = sorted(path for path in there(words[1]).rglob("*") if path.is_file())
        for path in found:
            print(f"2026-11-20 10:00:00 {path.stat().st_size:10} {path.relative_to(HOME / 's3' / bucket(words[1]))}")
        sys.exit(0 if found else 1)
    elif (service, command) == ("s3", "sync"):
        sync(Path(words[0]), there(words[1]), words[2:])
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
