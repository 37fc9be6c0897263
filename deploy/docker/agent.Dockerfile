# An agent in a container: docker build -t iac-agent -f deploy/docker/agent.Dockerfile .
# docs/agents.md says how to start it. Everything that has to outlive the container is in the volume.
FROM python:3.12-slim
WORKDIR /usr/src/iac
COPY pyproject.toml README.md LICENSE ./
COPY iac ./iac
RUN pip install --no-cache-dir '.[embedded]' \
 && useradd --uid 1000 --home-dir /var/lib/iac-agent --create-home iac-agent
USER 1000
WORKDIR /var/lib/iac-agent
ENV IAC_DATA_DIR=/var/lib/iac-agent/data
VOLUME /var/lib/iac-agent
# SIGTERM drains; give it 360 s. Run it with an init process (docker run --init), for the Terraforms that outlive their parents.
ENTRYPOINT ["python", "-m", "iac.agent"]
