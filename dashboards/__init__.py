"""The dashboard: the instrument panel in the browser, live or afterwards.

`serve` is what ``mmhealth watch`` calls, `serve_fleet` what ``mmhealth fleet --serve`` does.
Nothing leaves the machine: both listen on 127.0.0.1 only, and the page loads everything from there.
"""

from mmhealth.dashboards.app import create_app
from mmhealth.dashboards.fleet_server import serve_fleet
from mmhealth.dashboards.server import serve

__all__ = ["create_app", "serve", "serve_fleet"]
