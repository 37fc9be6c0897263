"""IAC runs Terraform for teams: on the server itself, or on agents that connect outbound only."""

__version__ = "0.1.0"
