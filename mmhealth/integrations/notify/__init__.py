"""Tells people and programs of alerts: webhooks, Slack, commands, files."""

from mmhealth.integrations.notify.backoff import Backoff
from mmhealth.integrations.notify.config import load_targets
from mmhealth.integrations.notify.notifier import Counts, Notifier, send_test
from mmhealth.integrations.notify.targets import Command, File, Slack, Target, Webhook

__all__ = [
    "Backoff",
    "Command",
    "Counts",
    "File",
    "Notifier",
    "Slack",
    "Target",
    "Webhook",
    "load_targets",
    "send_test",
]
