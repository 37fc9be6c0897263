"""What Terraform is told: arguments, environment, and the files of ours beside the configuration. Pure.

No value of a variable ever stands in an argument; the environment is built from nothing, not from the process's own.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from iac.domain.archives import File
from iac.domain.variables import tfvars_hcl, tfvars_json
from iac.domain.work import Bundle, BundleVariable
from iac.executor.workdir import Workdir

PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "TZ",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
"""What Terraform may see of the machine's environment; an operator adds names with IAC_TERRAFORM_ENV."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BACKEND_OVERRIDE = "zzz_iac_backend_override.tf.json"
SHORTEST_PART = 8
"""Characters; shorter strings inside a sensitive expression are too likely to be ordinary words."""
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
CLI_CONFIG = b"disable_checkpoint = true\n"


def environment(workdir: Workdir, machine: Mapping[str, str], variables: Sequence[BundleVariable]) -> dict[str, str]:
    """Exactly what Terraform gets: chosen names of the machine's, the task's own variables, and ours over all."""
    own = {variable.key: variable.value for variable in variables if variable.category == "environment"}
    return {
        "PATH": DEFAULT_PATH,
        **machine,
        **own,
        "HOME": str(workdir.home),
        "TMPDIR": str(workdir.tmp),
        "TF_DATA_DIR": str(workdir.data),
        "TF_CLI_CONFIG_FILE": str(workdir.cli_config),
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "CHECKPOINT_DISABLE": "1",
    }


def machine_environment(env: Mapping[str, str], extra: Sequence[str]) -> dict[str, str]:
    """What is passed on from the program's own environment."""
    return {name: env[name] for name in (*PASSED_ON, *extra) if name in env and not name.startswith("IAC_")}


def init() -> list[str]:
    return ["init", "-input=false"]


def plan(bundle: Bundle, workdir: Workdir, var_files: Sequence[Path]) -> list[str]:
    mode = {"destroy": ["-destroy"], "refresh_only": ["-refresh-only"]}.get(bundle.action, [])
    return [
        "plan", "-input=false", "-detailed-exitcode", f"-out={workdir.plan}",
        *mode,
        *(f"-var-file={path}" for path in var_files),
        *(f"-target={address}" for address in bundle.targets),
        *(f"-replace={address}" for address in bundle.replace),
    ]  # fmt: skip


def show_plan(workdir: Workdir) -> list[str]:
    return ["show", "-json", str(workdir.plan)]


def apply(workdir: Workdir) -> list[str]:
    return ["apply", "-json", "-input=false", str(workdir.plan)]


def relative_state(workdir: Workdir) -> str:
    """The state's path as the backend sees it: relative, because a plan carries it to another directory."""
    up = "../" * (len(Path(workdir.working_directory).parts) + 1)
    return f"{up}state/terraform.tfstate"


def own_files(workdir: Workdir) -> dict[str, File]:
    """The override that replaces a `backend` or `cloud` block of the user's by the local backend."""
    override = {"terraform": {"backend": {"local": {"path": relative_state(workdir)}}}}
    return {BACKEND_OVERRIDE: File(json.dumps(override).encode(), executable=False)}


def variable_files(variables: Sequence[BundleVariable]) -> dict[str, File]:
    """tfvars for strings (JSON: literal, nothing is interpreted) and for expressions (HCL)."""
    chosen = [variable for variable in variables if variable.category == "terraform"]
    strings = {variable.key: variable.value for variable in chosen if not variable.hcl}
    expressions = {variable.key: variable.value for variable in chosen if variable.hcl}
    files = {}
    if strings:
        files["iac.tfvars.json"] = File(tfvars_json(strings), executable=False)
    if expressions:
        files["iac.tfvars"] = File(tfvars_hcl(expressions), executable=False)
    return files


class _Backend(msgspec.Struct):
    type: str
    config: dict[str, object] | None = None


class _BackendFile(msgspec.Struct):
    backend: _Backend | None = None


def backend_problem(backend_file: bytes | None, workdir: Workdir) -> str | None:
    """What `init` really chose, read from its own record; None when it is our local backend."""
    if backend_file is None:
        return "init recorded no backend"
    try:
        backend = msgspec.json.decode(backend_file, type=_BackendFile).backend
    except msgspec.DecodeError as error:
        return f"init's record of the backend cannot be read ({error})"
    if backend is None:
        return "init recorded no backend"
    path = (backend.config or {}).get("path")
    if backend.type != "local" or path != relative_state(workdir):
        return f"the configuration forces backend {backend.type!r} (path {path!r}) in a file that sorts after ours"
    return None


def sensitive_values(variables: Sequence[BundleVariable]) -> tuple[str, ...]:
    """What must never be seen in a log."""
    found = [variable.value for variable in variables if variable.sensitive and variable.value]
    for variable in variables:
        if variable.sensitive and variable.hcl:
            found += [text for text in _QUOTED.findall(variable.value) if len(text) >= SHORTEST_PART]
    # Terraform shows text in Unicode's normal form C, whatever form it was given in.
    return tuple(dict.fromkeys(form for text in found for form in (text, unicodedata.normalize("NFC", text))))
