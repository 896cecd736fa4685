"""Opens the file system of an object store, as its URL and the environment say."""

import os
from datetime import timedelta
from typing import Any

from mmhealth.errors import ObjectStoreError
from mmhealth.place import RunUrl

_CONNECT_TIMEOUT_S = 5.0
_REQUEST_TIMEOUT_S = 10.0
"""Seconds without a byte after which a request is given up."""
_GCS_LIMIT_S = 5.0

_KNOWN = {
    "s3": (
        "region",
        "endpoint_override",
        "scheme",
        "anonymous",
        "connect_timeout",
        "request_timeout",
    ),
    "gs": ("endpoint_override", "scheme", "anonymous"),
    "az": ("account_name", "blob_storage_authority", "blob_storage_scheme"),
}
_AZURE_HOST = ".dfs.core.windows.net"


def connect(url: RunUrl) -> tuple[Any, str]:
    """The file system (`pyarrow.fs.FileSystem`) and the key of the run in it.

    It tries nothing twice by itself: whoever calls it counts and repeats. Raises ObjectStoreError
    for options that are not known or missing; where S3 is given neither region nor endpoint, it is
    asked for the bucket's region, which raises OSError where it cannot be reached.
    """
    options = url.options
    if unknown := sorted(options.keys() - set(_KNOWN[url.kind])):
        raise ObjectStoreError(
            f"{url}: {unknown[0]!r} is not known; what can be given is "
            f"{', '.join(_KNOWN[url.kind])}"
        )
    anonymous = options.pop("anonymous", "").lower() in ("1", "true", "yes")
    if url.kind == "s3":
        return _s3(url, options, anonymous), url.key
    if url.kind == "gs":
        return _gcs(options, anonymous), url.key
    return _azure(url, options)


def _s3(url: RunUrl, options: dict[str, str], anonymous: bool) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    connecting = _seconds(url, options, "connect_timeout", _CONNECT_TIMEOUT_S)
    waiting = _seconds(url, options, "request_timeout", _REQUEST_TIMEOUT_S)
    endpoint = options.get("endpoint_override") or _variable("AWS_ENDPOINT_URL_S3")
    endpoint = endpoint or _variable("AWS_ENDPOINT_URL")
    region = options.get("region") or _variable("AWS_REGION") or _variable("AWS_DEFAULT_REGION")
    if region is None:
        region = "us-east-1" if endpoint else resolve_s3_region(url.key.partition("/")[0])
    return S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        scheme=options.get("scheme"),
        anonymous=anonymous,
        connect_timeout=connecting,
        request_timeout=waiting,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
        allow_delayed_open=True,
    )


def _gcs(options: dict[str, str], anonymous: bool) -> Any:
    from pyarrow.fs import GcsFileSystem

    return GcsFileSystem(
        anonymous=anonymous,
        endpoint_override=options.get("endpoint_override"),
        scheme=options.get("scheme", "https"),
        retry_time_limit=timedelta(seconds=_GCS_LIMIT_S),
    )


def _azure(url: RunUrl, options: dict[str, str]) -> tuple[Any, str]:
    from pyarrow.fs import AzureFileSystem

    container, _, rest = url.key.partition("/")
    container, _, host = container.partition("@")
    given = options.pop("account_name", "")
    account = host.removesuffix(_AZURE_HOST) or given or _variable("AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise ObjectStoreError(
            f"{url}: whose container is it? Set AZURE_STORAGE_ACCOUNT_NAME, or write "
            f"abfs://{container}@ACCOUNT{_AZURE_HOST}/{rest}"
        )
    key = _variable("AZURE_STORAGE_ACCOUNT_KEY")
    token = None if key else _variable("AZURE_STORAGE_SAS_TOKEN")
    if authority := options.get("blob_storage_authority"):
        options["dfs_storage_authority"] = authority
    if scheme := options.get("blob_storage_scheme"):
        options["dfs_storage_scheme"] = scheme
    store = AzureFileSystem(account, account_key=key, sas_token=token, **options)
    return store, f"{container}/{rest}"


def _seconds(url: RunUrl, options: dict[str, str], name: str, default: float) -> float:
    try:
        return float(options.get(name, default))
    except ValueError:
        raise ObjectStoreError(f"{url}: {name} is not a number of seconds") from None


def _variable(name: str) -> str | None:
    return os.environ.get(name) or None
