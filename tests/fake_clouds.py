#!/usr/bin/env python3
"""The commands ``gcloud`` and ``az`` for the tests, faked as a whole: buckets are folders, jobs are files.

``$FAKE_CLOUDS`` is a folder: ``gs/BUCKET/...`` has the objects, ``jobs/NAME`` what was sent, and ``answer.json`` what
is said of a job.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

HOME = Path(os.environ["FAKE_CLOUDS"])


def option(name: str) -> str:
    for index, word in enumerate(sys.argv):
        if word == name:
            return sys.argv[index + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    sys.exit(f"ERROR: {name} is missing")


def answer(default: dict) -> None:
    path = HOME / "answer.json"
    print(path.read_text() if path.exists() else json.dumps(default))


def keep(name: str, text: str) -> None:
    (HOME / "jobs").mkdir(exist_ok=True)
    (HOME / "jobs" / name).write_text(text)
    (HOME / "jobs" / f"{name}.words").write_text("\n".join(sys.argv[1:]))


def gcloud(words: list[str]) -> None:
    if words[:2] == ["auth", "list"]:
        print("astro@example.org")
    elif words[:2] == ["storage", "cp"]:
        path = HOME / "gs" / words[3].removeprefix("gs://")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sys.stdin.read())
    elif words[:3] == ["ai", "custom-jobs", "create"]:
        keep(option("--display-name"), Path(option("--config")).read_text())
        print(json.dumps({"name": f"projects/12/locations/{option('--region')}/customJobs/345"}))
    elif words[:3] == ["ai", "custom-jobs", "describe"]:
        (HOME / "asked").write_text("\n".join(words))
        answer({"state": "JOB_STATE_RUNNING"})
    elif words[:3] == ["ai", "custom-jobs", "cancel"]:
        (HOME / "answer.json").write_text(json.dumps({"state": "JOB_STATE_CANCELLED"}))
    else:
        sys.exit(f"ERROR: (gcloud) Invalid choice: {words}")


def az(words: list[str]) -> None:
    if words[:2] == ["account", "show"]:
        print(json.dumps({"name": "Astronomy"}))
    elif words[:3] == ["ml", "job", "create"]:
        import yaml

        path = Path(option("--file"))
        job = yaml.safe_load(path.read_text())
        keep(job["name"], path.read_text())
        shutil.copytree(path.parent / job["inputs"]["run_files"]["path"], HOME / "sent" / job["name"])
        print(json.dumps({"name": job["name"], "status": "Starting"}))
    elif words[:3] == ["ml", "job", "show"]:
        answer({"status": "Running"})
    elif words[:3] == ["ml", "job", "cancel"]:
        (HOME / "answer.json").write_text(json.dumps({"status": "Canceled"}))
    else:
        sys.exit(f"ERROR: {words} is misspelled or not recognized")


{"gcloud": gcloud, "az": az}[os.environ["FAKE_NAME"]](sys.argv[1:])
