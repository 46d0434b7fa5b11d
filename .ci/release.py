"""Build a release from a tag, twice, and write its files with checksums and notes into ``dist/``. It publishes nothing.

    .venv/bin/python .ci/release.py v0.2.0           check the tag, build, compare, check the packages
    .venv/bin/python .ci/release.py v0.2.0 --check   only check that the tag can be released

A tag vX.Y.Z can be released if it is the commit that is checked out, nothing differs from it, and version, CITATION.cff
and a dated section of CHANGELOG.md agree with it. The packages are built from the files of the commit alone, at the
time of the commit, so everybody who builds the tag gets the same bytes. What remains to be done by hand (signing,
uploading) is printed as commands.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
SUMS, NOTES, RECIPE = "SHA256SUMS", "release-notes.md", "recipe.yaml"
TAG = re.compile(r"v(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)")


class ReleaseError(Exception):
    """Why there is no release: one line for each reason."""


def git(checkout: Path, *words: str) -> str:
    """Return what git prints; an empty text if it fails."""
    done = subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def version_of(checkout: Path) -> str:
    """Return the version in ``hpctrain/__init__.py``, where setup.cfg takes it from."""
    tree = ast.parse((checkout / "hpctrain/__init__.py").read_text(encoding="utf-8"))
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    return str(ast.literal_eval(values["__version__"]))


def notes_of(checkout: Path, version: str) -> str:
    """Return the section of a version in the changelog, without its heading; empty if there is none with a date."""
    text = (checkout / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    found = re.search(rf"{heading}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def problems(checkout: Path, tag: str) -> list[str]:
    """Return every reason why a tag of a checkout cannot be released."""
    if not (found := TAG.fullmatch(tag)):
        return [f"'{tag}' is no tag such as v0.2.0 or v0.2.0rc1"]
    wanted, reasons = found[1], []
    commit = git(checkout, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
    if not commit:
        reasons.append(f"there is no tag {tag}; make it with: git tag --annotate {tag} --message 'hpctrain {wanted}'")
    elif commit != git(checkout, "rev-parse", "HEAD"):
        reasons.append(f"{tag} is not the commit that is checked out; git checkout {tag}")
    if changed := git(checkout, "status", "--porcelain").splitlines():
        shown = ", ".join(line[2:].strip() for line in changed[:3]) + (" ..." if len(changed) > 3 else "")
        reasons.append(f"the checkout differs from its commit: {shown}; commit the changes or put them aside")
    if (version := version_of(checkout)) != wanted:
        reasons.append(f"hpctrain/__init__.py has version {version}, the tag has {wanted}")
    cited = re.search(r"(?m)^version: *[\"']?([\w.]+)", (checkout / "CITATION.cff").read_text(encoding="utf-8"))
    if cited is None or cited[1] != wanted:
        reasons.append(f"CITATION.cff has version {cited[1] if cited else 'none'}, the tag has {wanted}")
    if not notes_of(checkout, wanted):
        reasons.append(f"CHANGELOG.md has no section '## [{wanted}] - YYYY-MM-DD' with text")
    return reasons


def export(checkout: Path, commit: str, folder: Path) -> Path:
    """Write the files of a commit into a folder, with the permissions that git records; return the folder."""
    folder.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "-C", str(checkout), "-c", "tar.umask=0022", "archive", commit], capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-p", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def build(source: Path, out: Path, epoch: int) -> list[Path]:
    """Build source archive and wheel, the wheel from the archive; return both.

    Parameters
    ----------
    source : Path
        Files of a commit.
    out : Path
        Folder for the packages.
    epoch : int
        Time of all files in them [s since 1970].
    """
    out.mkdir()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"}
    hook = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"

    def call(name: str, folder: Path) -> None:
        command = [sys.executable, "-c", hook, name, str(out)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, umask=0o022)
        if done.returncode:
            raise ReleaseError(f"{name} failed:\n{(done.stdout + done.stderr)[-3000:]}")

    call("build_sdist", source)
    [archive] = out.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-x", "-p", "-f", str(archive), "-C", folder], check=True)
        [unpacked] = Path(folder).iterdir()
        call("build_wheel", unpacked)
    level_archive(archive, epoch)
    return [archive, *out.glob("*.whl")]


def level_archive(path: Path, epoch: int) -> None:
    """Write a source archive again with sorted names, one time, no owner: setuptools takes these from the machine."""
    with tarfile.open(path) as old:
        members = sorted(old.getmembers(), key=lambda member: member.name)
        contents = {member.name: old.extractfile(member) for member in members if member.isreg()}
        fresh = path.with_suffix(".new")
        with (
            open(fresh, "wb") as raw,
            gzip.GzipFile("", "wb", 9, raw, mtime=epoch) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
        ):
            for member in members:
                member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
                member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
                member.pax_headers = {}
                new.addfile(member, contents.get(member.name))
    fresh.replace(path)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_packages(paths: list[Path]) -> None:
    """Let the tools of the Python packaging authority look at the packages, if they are installed here."""
    wheels = [str(path) for path in paths if path.suffix == ".whl"]
    # W004: slurm/lab.d is a folder of files to copy and no package.
    checks = {"twine": ["check", "--strict", *map(str, paths)], "check-wheel-contents": ["--ignore", "W004", *wheels]}
    for name, words in checks.items():
        beside = Path(sys.executable).with_name(name)
        tool = str(beside) if beside.exists() else shutil.which(name)
        if tool is None:
            raise ReleaseError(
                f"{name} is not installed; {sys.executable} -m pip install -c constraints.txt '.[release]'"
            )
        done = subprocess.run([tool, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ReleaseError(f"{name}: {(done.stdout + done.stderr).strip()}")


def recipe_of(text: str, version: str, archive: Path) -> str:
    """Return the recipe for conda-forge, from the one of the checkout: the source is the archive of the release."""
    address = f"https://pypi.org/packages/source/h/hpctrain/{archive.name}"
    source = f"source:\n  url: {address}\n  sha256: {digest(archive)}\n"
    text, replaced = re.subn(r"(?m)^source:\n(?:  .*\n)+", source, text)
    text, versions = re.subn(r'(?m)^  version: "[^"]+"', f'  version: "{version}"', text)
    if (replaced, versions) != (1, 1):
        raise ReleaseError(".ci/conda/recipe.yaml has no section source or no version to replace")
    return text


def release(checkout: Path, tag: str, out: Path) -> list[Path]:
    """Build a tag twice, compare, check, and write everything into a new folder; return what is written.

    Raises
    ------
    ReleaseError
        The tag cannot be released, or the builds differ.
    """
    if reasons := problems(checkout, tag):
        raise ReleaseError("\n".join(reasons))
    if out.exists() and any(out.iterdir()):
        raise ReleaseError(f"{out} is not empty; move what is in it away")
    version = tag[1:]
    epoch = int(git(checkout, "log", "-1", "--format=%ct", tag))
    with tempfile.TemporaryDirectory(prefix="hpctrain-release-") as folder:
        first, second = (
            build(export(checkout, tag, Path(folder) / name / "hpctrain"), Path(folder) / name / "dist", epoch)
            for name in ("first", "second-elsewhere")
        )
        for one, other in zip(first, second, strict=True):
            if (one.name, digest(one)) != (other.name, digest(other)):
                raise ReleaseError(
                    f"two builds of {one.name} differ; this Python or setuptools builds no equal packages"
                )
        check_packages(first)
        out.mkdir(exist_ok=True, parents=True)
        written = [Path(shutil.copy(path, out)) for path in first]
    recipe = (checkout / ".ci/conda/recipe.yaml").read_text(encoding="utf-8")
    texts = {
        SUMS: "".join(f"{digest(path)}  {path.name}\n" for path in written),
        NOTES: notes_of(checkout, version) + "\n",
        RECIPE: recipe_of(recipe, version, written[0]),
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return [*written, *(out / name for name in texts)]


def main() -> int:
    """Release the tag of the command line; return 1 if it cannot be released."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tag", help="such as v0.2.0")
    parser.add_argument("--check", action="store_true", help="only check the tag; build nothing")
    parser.add_argument("--checkout", type=Path, default=CHECKOUT, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: dist/)")
    options = parser.parse_args()
    out = options.out or options.checkout / "dist"
    try:
        if options.check and (reasons := problems(options.checkout, options.tag)):
            raise ReleaseError("\n".join(reasons))
        written = [] if options.check else release(options.checkout, options.tag, out)
    except ReleaseError as error:
        lines = str(error).splitlines()
        print("\n  ".join([f"no release of {options.tag}:", *lines]), file=sys.stderr)
        return 1
    print(f"{options.tag} can be released" if options.check else "\n".join(f"wrote {path}" for path in written))
    if written:
        print(
            f"next, by hand, in {out}:\n"
            f"  gpg --armor --detach-sign {SUMS}     # sign; to verify: gpg --verify, then sha256sum --check\n"
            "  twine upload *.tar.gz *.whl              # to the package index\n"
            f"  git push origin {options.tag}                   # then a release of your forge with {NOTES}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
