"""Terraform by itself, as a careful script would run it: what the platform is compared with."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from iac.executor import terraform
from iac.executor.binaries import Binaries, Binary, BinarySettings
from iac.executor.terraform import machine_environment
from iac.executor.workdir import Workdir

_numbers = count(1)


def configuration(resources: int) -> str:
    """A main.tf with so many resource blocks; each is as cheap as a resource can be."""
    block = 'resource "terraform_data" "item{0:04}" {{\n  input = {{ name = "item {0}" }}\n}}\n'
    return "\n".join(block.format(number) for number in range(resources))


async def find_terraform() -> Binary:
    """The program that the server will take for a workspace without a wish."""
    settings = BinarySettings(
        terraform_dir=None,
        download_dir=Path("nowhere"),
        mirror_url=None,
        key_file=None,
        allow_download=False,
        search_path=os.environ.get("PATH", os.defpath),
    )
    return await Binaries(settings).resolve("latest")


@dataclass(frozen=True, slots=True)
class Bare:
    """One configuration, run by Terraform alone, with the arguments and the clean environment that the server uses."""

    directory: Path
    argv: tuple[str, ...]
    main: str

    def plan(self) -> float:
        """Seconds that init, plan and the plan's JSON take in a fresh directory."""
        place = self._fresh()
        try:
            return self._timed_plan(place)
        finally:
            shutil.rmtree(place.root)

    def apply(self) -> float:
        """Seconds that init and apply take, in a directory that has the configuration and its plan and nothing else."""
        place = self._fresh()
        try:
            self._timed_plan(place)
            shutil.rmtree(place.data, ignore_errors=True)  # there is none if init had nothing to keep
            place.lock_hcl.unlink(missing_ok=True)
            return self._timed(place, terraform.init(), terraform.apply(place))
        finally:
            shutil.rmtree(place.root)

    def _fresh(self) -> Workdir:
        place = Workdir(self.directory / str(next(_numbers)))
        for path in (place.config, place.tmp, place.home, place.plan.parent):
            path.mkdir(parents=True)
        (place.config / "main.tf").write_text(self.main)
        place.cli_config.write_bytes(terraform.CLI_CONFIG)
        return place

    def _timed_plan(self, place: Workdir) -> float:
        plan = ["plan", "-input=false", "-detailed-exitcode", f"-out={place.plan}"]
        return self._timed(place, terraform.init(), plan, terraform.show_plan(place))

    def _timed(self, place: Workdir, *commands: Sequence[str]) -> float:
        env = terraform.environment(place, machine_environment(os.environ, ()), ())
        with place.raw_log.open("ab") as output:
            began = time.perf_counter()
            for command in commands:
                done = subprocess.run(
                    [*self.argv, *command],
                    check=False,
                    cwd=place.cwd,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
                if done.returncode not in (0, 2):
                    raise RuntimeError(f"terraform {command[0]} failed:\n{place.raw_log.read_text()[-2000:]}")
            return time.perf_counter() - began
