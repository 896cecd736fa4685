"""The command line: parses, calls, prints."""

from mmhealth.cli.app import app, main

__all__ = ["app", "main"]
