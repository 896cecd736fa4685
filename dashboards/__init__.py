"""The dashboard: the instrument panel in the browser, live or afterwards.

`serve` is what ``mmhealth watch`` calls. Nothing leaves the machine: it listens on 127.0.0.1 only,
and the page loads everything from there.
"""

from mmhealth.dashboards.app import create_app
from mmhealth.dashboards.server import serve

__all__ = ["create_app", "serve"]
