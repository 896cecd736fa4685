"""One POST without surprises: no redirects, no credentials in URLs, failures of a known kind."""

import base64
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, InvalidURL
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit

from mmhealth._version import __version__
from mmhealth.integrations.notify.backoff import parse_retry_after

_TOO_MANY = 429


class UndeliveredError(Exception):
    """A message did not arrive; says why, unredacted."""

    def __init__(self, why: str, *, transient: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.transient = transient
        """It may arrive if it is sent again."""
        self.retry_after = retry_after
        """Seconds that the receiver asks to wait."""


def post_json(url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> None:
    """POST; raises UndeliveredError for all but an answer 2xx.

    User and password in the URL become basic authentication. ``timeout`` seconds are granted to
    each wait for the network.
    """
    parts = urlsplit(url)
    sent = {"User-Agent": f"mmhealth/{__version__}", "Content-Type": "application/json"}
    user, at, host = parts.netloc.rpartition("@")
    if at:
        sent["Authorization"] = f"Basic {base64.b64encode(unquote(user).encode()).decode()}"
    clean = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    request = urllib.request.Request(clean, body, {**sent, **headers}, method="POST")
    try:
        with _OPENER.open(request, timeout=timeout):
            return
    except HTTPError as error:
        with error:
            raise _refusal(error) from None
    except InvalidURL as error:
        raise UndeliveredError(f"InvalidURL: {error}") from None
    except (OSError, HTTPException) as error:
        raise UndeliveredError(f"{type(error).__name__}: {error}", transient=True) from None
    except ValueError as error:
        raise UndeliveredError(f"{type(error).__name__}: {error}") from None


def _refusal(error: HTTPError) -> UndeliveredError:
    why = f"HTTP {error.code} {error.reason}"
    if 300 <= error.code < 400:
        why += " (redirects are not followed: put the final address into the configuration)"
    return UndeliveredError(
        why,
        transient=error.code == _TOO_MANY or error.code >= 500,
        retry_after=parse_retry_after(error.headers.get("Retry-After")),
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the headers, and with them secrets, to another host."""

    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        """Never follow one."""


_OPENER = urllib.request.build_opener(_NoRedirects)
