"""A workspace with everything in it, by real runs of Terraform: two states, a plan of every kind that waits, inputs."""

from __future__ import annotations

from dataclasses import dataclass

from tests.web.clients import REAL, Client

FIRST = """
variable "password" { sensitive = true }
variable "region" { default = "eu-west-1" }
resource "terraform_data" "network" { input = { cidr = "10.0.0.0/16", region = var.region, team = "platform" } }
resource "terraform_data" "node" {
  count = 3
  input = { size = "m5.large", index = count.index }
}
resource "terraform_data" "policy" { input = jsonencode({ Version = 1, Allow = ["read"] }) }
resource "terraform_data" "setup" {
  input            = "set -eu\\napt-get update\\napt-get install nginx\\n"
  triggers_replace = { image = "ami-1" }
}
resource "terraform_data" "old_name" { input = "stays" }
resource "terraform_data" "legacy" { input = "goes" }
resource "terraform_data" "db" { input = { user = "app", password = var.password } }
module "edge" { source = "./edge" }
output "endpoint" { value = "https://shop.example.com" }
output "password" {
  value     = var.password
  sensitive = true
}
"""
EDGE = """
resource "terraform_data" "cache" {
  for_each = toset(["eu", "us"])
  input    = { place = each.key, ttl = 300 }
}
"""
SECOND = FIRST.replace('"platform"', '"shop"')
THIRD = (
    SECOND.replace('"m5.large"', '"m5.xlarge"')
    .replace("count = 3", "count = 4")
    .replace('["read"]', '["read", "write"]')
    .replace("install nginx", "install nginx curl")
    .replace('"ami-1"', '"ami-2"')
    .replace('"old_name"', '"new_name"')
    .replace('resource "terraform_data" "legacy" { input = "goes" }\n', "")
    + """
moved {
  from = terraform_data.old_name
  to   = terraform_data.new_name
}
import {
  to = terraform_data.adopted
  id = "i-1"
}
resource "terraform_data" "adopted" {}
"""
)
SECRET = "canary-of-the-shop"
FILES = {"edge/main.tf": EDGE, "policy.json": '{\n  "Version": 1\n}\n', "values.yaml": "replicas: 3\n"}


@dataclass(frozen=True)
class Shop:
    """`plan` is the task whose plan waits; `first` and `second` are the serials of its two states."""

    name: str
    plan: int
    first: int
    second: int

    @property
    def path(self) -> str:
        return f"/workspaces/{self.name}"


def open_shop(admin: Client, name: str = "shop") -> Shop:
    admin.workspace({"main.tf": FIRST, **FILES}, name=name, description="The shop", tags={"env": "prod"})
    path = f"/workspaces/{name}"
    for variable in (
        {"key": "password", "value": SECRET, "sensitive": True, "description": "Of the database"},
        {"key": "region", "value": "eu-west-1"},
        {"key": "zones", "value": '["a", "b"]', "hcl": True},
        {"key": "APP_LEVEL", "value": "warn", "category": "environment"},
    ):
        admin.post(f"{path}/variables", 201, json=variable)
    block = {"type": "terraform_data", "name": "kept", "body": {"input": {"owner": "platform"}}}
    admin.post(f"{path}/resources", 201, json=block)
    _applied(admin, name, "The first one")
    admin.put(f"{path}/configuration", json={"files": {"main.tf": SECOND, **FILES}, "message": "Team moved"})
    _applied(admin, name, "Team moved")
    admin.put(f"{path}/configuration", json={"files": {"main.tf": THIRD, **FILES}, "message": "Bigger nodes"})
    plan = admin.task(name, "plan_and_apply", message="Bigger nodes")
    admin.until(plan, "planned")
    second, first = (version["serial"] for version in admin.get(f"{path}/state-versions")["items"])
    return Shop(name, plan, first, second)


def _applied(admin: Client, name: str, message: str) -> None:
    task = admin.until(admin.task(name, "plan_and_apply", auto_apply=True, message=message), "succeeded", "failed")
    assert task["status"] == "succeeded", task


def small(admin: Client, name: str) -> str:
    """The path of a workspace with one resource applied, to be changed at will."""
    admin.workspace({"main.tf": 'resource "terraform_data" "a" { input = "one" }'}, name=name, terraform_version=REAL)
    _applied(admin, name, "")
    return f"/workspaces/{name}"
