"""How an agent joins a pool: commands to paste, for each way of running one. docs/agents.md has the same with explanations.

The token goes by the standard input into a file, never into a command's arguments, where everybody on the host reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from urllib.parse import urlsplit

import msgspec

_HERE = ("localhost", "127.0.0.1", "::1")


class Step(msgspec.Struct, frozen=True):
    """What to do, in words and as commands."""

    words: str
    code: str


class Recipe(msgspec.Struct, frozen=True):
    """One way to run an agent."""

    id: str
    title: str
    steps: tuple[Step, ...]
    note: str = ""


def recipes(endpoint: str, token: str, *, kubernetes_first: bool = False) -> tuple[Recipe, ...]:
    """`endpoint` is the server's address as this browser knows it."""
    settings = _settings(endpoint)
    made = [_host(settings, token), _systemd(settings, token), _docker(settings, token), _kubernetes(settings, token)]
    return tuple([made[-1], *made[:-1]] if kubernetes_first else made)


def warning(endpoint: str) -> str:
    """What is to be thought of where agents elsewhere use this address; empty when nothing is."""
    parts = urlsplit(endpoint)
    if parts.hostname in _HERE:
        return (
            "The commands have the address of your browser, which other hosts do not reach: put the server's own there."
        )
    if parts.scheme == "http":
        return (
            "Nothing is encrypted here: everybody on the way reads the token. IAC_ALLOW_HTTP=1 says that you want that."
        )
    return ""


def _settings(endpoint: str) -> list[tuple[str, str]]:
    parts = urlsplit(endpoint)
    plain = parts.scheme == "http" and parts.hostname not in _HERE
    return [("IAC_API_ENDPOINT", endpoint), *([("IAC_ALLOW_HTTP", "1")] if plain else [])]


def _here(token: str, command: str) -> str:
    """The command, given the token on its standard input."""
    return f"{command} <<'EOF'\n{token}\nEOF"


def _host(settings: Sequence[tuple[str, str]], token: str) -> Recipe:
    variables = " \\\n  ".join(f"{name}={quote(value)}" for name, value in settings)
    return Recipe(
        "host",
        "A host",
        (
            Step("Keep the token in a file that only you can read.", _here(token, "(umask 077 && cat > agent-token)")),
            Step(
                "Install the agent, in a copy of the repository. It needs Python 3.11 to 3.13 and no root.",
                "python3 -m venv .venv && .venv/bin/pip install '.[embedded]'",
            ),
            Step(
                "Start it.",
                f"{variables} \\\n"
                '  IAC_AGENT_TOKEN_FILE=agent-token IAC_AGENT_NAME="$(hostname)" \\\n'
                "  .venv/bin/python -m iac.agent",
            ),
        ),
    )


def _systemd(settings: Sequence[tuple[str, str]], token: str) -> Recipe:
    lines = [f"{name}={value}" for name, value in settings]
    # The name is the host's own, so it is put in by the shell: everything else is quoted.
    written = "\n".join(
        [
            "{",
            *(f"  echo {quote(line)}" for line in lines),
            '  echo "IAC_AGENT_NAME=$(hostname)"',
            "  echo IAC_AGENT_TOKEN_FILE=/etc/iac/agent-token",
            "} | sudo install -m 0640 -g iac-agent /dev/stdin /etc/iac/agent.env",
        ]
    )
    return Recipe(
        "systemd",
        "systemd",
        (
            Step(
                "Install the agent, in a copy of the repository.",
                "sudo python3 -m venv /opt/iac/.venv && sudo /opt/iac/.venv/bin/pip install '.[embedded]'\n"
                "sudo useradd --system --home-dir /var/lib/iac-agent iac-agent\n"
                "sudo install -d -m 0755 /etc/iac",
            ),
            Step(
                "Keep the token where only the agent's user reads it.",
                _here(token, "sudo install -m 0400 -o iac-agent /dev/stdin /etc/iac/agent-token"),
            ),
            Step("Write its settings.", written),
            Step(
                "Start it, now and with the host.",
                "sudo install -m 0644 deploy/systemd/iac-agent.service /etc/systemd/system/\n"
                "sudo systemctl daemon-reload && sudo systemctl enable --now iac-agent",
            ),
        ),
    )


def _docker(settings: Sequence[tuple[str, str]], token: str) -> Recipe:
    variables = " ".join(f"-e {name}={quote(value)}" for name, value in settings)
    return Recipe(
        "docker",
        "Docker",
        (
            Step(
                "Build the image once, in a copy of the repository.",
                "docker build -t iac-agent -f deploy/docker/agent.Dockerfile .",
            ),
            Step(
                "Keep the token in the agent's volume.",
                _here(
                    token,
                    "docker run --rm -i -v iac-agent:/var/lib/iac-agent --entrypoint sh iac-agent \\\n"
                    "  -c 'umask 077 && cat > /var/lib/iac-agent/token'",
                ),
            ),
            Step(
                "Start it.",
                "docker run -d --name iac-agent --init --restart on-failure --stop-timeout 360 \\\n"
                "  -v iac-agent:/var/lib/iac-agent \\\n"
                f"  {variables} \\\n"
                '  -e IAC_AGENT_TOKEN_FILE=/var/lib/iac-agent/token -e IAC_AGENT_NAME="$(hostname)" iac-agent',
            ),
        ),
        "A volume for each agent: its identity, and what could not be sent yet, are in it.",
    )


def _kubernetes(settings: Sequence[tuple[str, str]], token: str) -> Recipe:
    variables = "\n".join(
        f"            - {{ name: {name}, value: {msgspec.json.encode(value).decode()} }}" for name, value in settings
    )
    return Recipe(
        "kubernetes",
        "Kubernetes",
        (
            Step(
                "Build the image once, in a copy of the repository, and bring it to where your cluster gets images.",
                "IMAGE=registry.example.com/iac-agent\n"
                'docker build -t "$IMAGE" -f deploy/docker/agent.Dockerfile . && docker push "$IMAGE"',
            ),
            Step(
                "Keep the token in a secret, in the namespace that kubectl is set to.",
                _here(token, "kubectl create secret generic iac-agent --from-file=token=/dev/stdin"),
            ),
            Step(
                "Start agents, in the same shell and namespace.",
                "sed \"s|image: iac-agent|image: $IMAGE|\" <<'EOF' | kubectl apply -f -\n"
                f"{_STATEFUL_SET.format(settings=variables)}EOF",
            ),
        ),
        "Each pod keeps its volume and its name, so it is the same agent when it comes back.",
    )


_STATEFUL_SET = """\
apiVersion: apps/v1
kind: StatefulSet
metadata: {{ name: iac-agent }}
spec:
  serviceName: iac-agent
  replicas: 1
  selector: {{ matchLabels: {{ app: iac-agent }} }}
  template:
    metadata: {{ labels: {{ app: iac-agent }} }}
    spec:
      terminationGracePeriodSeconds: 360
      shareProcessNamespace: true
      securityContext: {{ fsGroup: 1000 }}
      containers:
        - name: agent
          image: iac-agent
          env:
{settings}
            - {{ name: IAC_AGENT_NAME, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
            - {{ name: IAC_AGENT_TOKEN_FILE, value: /run/iac/token }}
          volumeMounts:
            - {{ name: token, mountPath: /run/iac, readOnly: true }}
            - {{ name: data, mountPath: /var/lib/iac-agent }}
      volumes:
        - {{ name: token, secret: {{ secretName: iac-agent, defaultMode: 0440 }} }}
  volumeClaimTemplates:
    - metadata: {{ name: data }}
      spec: {{ accessModes: [ReadWriteOnce], resources: {{ requests: {{ storage: 5Gi }} }} }}
"""
