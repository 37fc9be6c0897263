"""What runs Terraform, put together: the same on the server and on an agent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from iac.executor.accessor import DataAccessor
from iac.executor.binaries import Binaries, BinarySettings
from iac.executor.executor import TerraformExecutor
from iac.executor.run import ExecutorPolicy, Hooks
from iac.executor.steps import cli_config_of
from iac.executor.terraform import machine_environment
from iac.settings import TerraformSettings


def tasks_in(data_dir: Path) -> Path:
    """Where the work directories are."""
    return (data_dir / "tasks").absolute()


def executor_of(
    accessor: DataAccessor,
    terraform: TerraformSettings,
    env: Mapping[str, str],
    data_dir: Path,
    *,
    policy: ExecutorPolicy,
    hooks: Hooks,
) -> TerraformExecutor:
    """`env` is this program's environment: what of it Terraform may see, the settings say."""
    binaries = Binaries(
        BinarySettings(
            terraform_dir=terraform.directory,
            download_dir=data_dir / "terraform",
            mirror_url=terraform.mirror,
            key_file=terraform.key_file,
            allow_download=terraform.download,
            search_path=env.get("PATH", os.defpath),
        )
    )
    return TerraformExecutor(
        accessor,
        binaries,
        tasks=tasks_in(data_dir),
        machine=machine_environment(env, terraform.environment),
        cli_config=cli_config_of(terraform.cli_config),
        policy=policy,
        hooks=hooks,
    )
