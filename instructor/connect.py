"""An SDK's client, made of what the user gave and of what the environment holds."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import os
import urllib.parse
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

from .aws import lacks_account
from .dialects.xai import Late
from .exceptions import ConfigurationError
from .providers import Provider, Row
from .retry import milliseconds

logger = logging.getLogger("instructor.auto_client")


def connect(row: Row, kwargs: dict[str, Any], *, wants_async: bool) -> Any:
    """The client, made with those of `kwargs` that the SDK takes; they are taken out.

    Raises:
        ConfigurationError: the SDK is not installed, the key or the address is missing, or the SDK refuses them.
    """
    module, name = sdk(row), row.clients[wants_async]
    if not hasattr(module, name):  # mistralai 1 has its client at the top
        module = importlib.import_module(row.sdk.partition(".")[0])
    make = getattr(module, name)
    options = _PREPARE.get(row.provider, _with_key)(row, kwargs)
    accepted = inspect.signature(make).parameters
    options |= {name: kwargs.pop(name) for name in list(kwargs) if name in accepted}
    if row.provider is Provider.LOCAL:  # no proxy stands before what runs on this machine
        direct = module.DefaultAsyncHttpxClient if wants_async else module.DefaultHttpxClient
        options["http_client"] = direct(trust_env=False)
    if row.provider is Provider.XAI and wants_async:
        make = partial(Late, make)
    try:
        return _own(row, make(**options), options)
    except (ConfigurationError, ImportError):
        raise
    except Exception as error:
        logger.error("Error initializing %s client: %s", row.provider.value, type(error).__name__)  # noqa: TRY400
        raise ConfigurationError(f"Cannot make the {row.provider.value} client: {error}") from error


def sdk(row: Row) -> ModuleType:
    """The SDK's module.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        found = importlib.util.find_spec(row.sdk)
    except ModuleNotFoundError:  # the parent of a dotted name is absent
        found = None
    if found is None:
        package = row.sdk.replace(".", "-")
        extra = row.extra or package
        install = "openai" if extra == "openai" else f'"instructor[{extra}]"'  # what not everybody has is an extra
        raise ConfigurationError(f"The provider {row.provider.value!r} needs {package}: pip install {install}")
    return importlib.import_module(row.sdk)


def _own(row: Row, client: Any, options: Mapping[str, Any]) -> Any:
    """The client, with its own account and nobody else's.

    OpenAI's SDK reads the organization, the project and the headers of its maker's account from the environment;
    Anthropic's and Amazon's do not miss a key before the first call, which the latter's need not sign.
    """
    headers = options.get("default_headers")
    if row.sdk == "openai" and row.provider is not Provider.OPENAI:
        client.organization, client.project = options.get("organization"), options.get("project")
        client._custom_headers = dict(headers or {})  # noqa: SLF001  there is no public way to take one out
    if row.provider is Provider.XAI:  # the SDK hides its key
        account = repr((options["api_key"], options.get("metadata")))
        vars(client).update(_place=options.get("api_host"), _account=account)
    if row.provider is Provider.BEDROCK and lacks_account(client):
        raise _missing(row, "credentials", "aws_access_key_id", ("AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK"))
    if row.provider is Provider.ANTHROPIC and headers is None and not any(map(vars(client).get, _CREDENTIALS)):
        raise _missing(row, "key", "api_key", row.key_env)
    return client


def _xai(row: Row, kwargs: dict[str, Any]) -> dict[str, Any]:
    """An address as others have it is a host, and says whether the way there is encrypted."""
    made = {"api_key": _found(row, kwargs, "key", "api_key", row.key_env)}
    if address := kwargs.pop("base_url", None):
        url = urllib.parse.urlsplit(address)
        made |= {"api_host": url.netloc, "use_insecure_channel": url.scheme == "http"}
    return made


_CREDENTIALS = ("api_key", "auth_token", "credentials")


def _found(row: Row, kwargs: dict[str, Any], what: str, name: str, variables: tuple[str, ...]) -> Any:
    """What the user gave under `name`, taken out; or else what a variable holds."""
    found = kwargs.pop(name, None) or next(filter(None, map(os.environ.get, variables)), None)
    if found is None:
        raise _missing(row, what, name, variables)
    return found


def _missing(row: Row, what: str, name: str, variables: tuple[str, ...]) -> ConfigurationError:
    return ConfigurationError(f"No {what} for {row.provider.value!r}: set {' or '.join(variables)}, or pass {name}=…")


def _key(row: Row, kwargs: dict[str, Any]) -> Any:
    return kwargs.pop("api_key", None) or row.fallback_key or _found(row, kwargs, "key", "api_key", row.key_env)


def _with_key(row: Row, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The address and the key; a provider that copies OpenAI's API must never be sent OpenAI's key."""
    if row.base_url is None:
        return {}  # the SDK's own provider: it knows where to look, and says so
    return {"api_key": _key(row, kwargs), "base_url": kwargs.pop("base_url", None) or row.base_url}


def _keyed(row: Row, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The key alone, of a provider whose SDK does not miss it, or does in words of its own."""
    return {"api_key": _key(row, kwargs)}


def _cohere(row: Row, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Cohere's client warns of each schema that it sends, which its users know to want."""
    return {"log_warning_experimental_features": False, **_keyed(row, kwargs)}


def _mistral(row: Row, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Mistral's client has names of its own for the address and, in milliseconds, the timeout."""
    given = {"server_url": kwargs.pop("base_url", None), "timeout_ms": milliseconds(kwargs.pop("timeout", None))}
    return {name: value for name, value in given.items() if value is not None} | _keyed(row, kwargs)


def _azure(row: Row, kwargs: dict[str, Any]) -> dict[str, Any]:
    made = {"api_version": kwargs.pop("api_version", None) or "2024-02-01"}
    if not (kwargs.get("azure_ad_token") or kwargs.get("azure_ad_token_provider")):
        made["api_key"] = _key(row, kwargs)
    if not kwargs.get("base_url"):
        made["azure_endpoint"] = _found(row, kwargs, "address", "azure_endpoint", ("AZURE_OPENAI_ENDPOINT",))
    return made


def _databricks(row: Row, kwargs: dict[str, Any]) -> dict[str, Any]:
    names = ("DATABRICKS_BASE_URL", "DATABRICKS_HOST", "DATABRICKS_WORKSPACE_URL")
    address = str(_found(row, kwargs, "address", "base_url", names)).rstrip("/").removesuffix("/serving-endpoints")
    return {"api_key": _key(row, kwargs), "base_url": f"{address}/serving-endpoints"}


def _google(row: Row, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Google's client takes its address and its timeout (in milliseconds) in `http_options`."""
    options = kwargs.pop("http_options", None) or {}
    http = dict(options if isinstance(options, Mapping) else options.model_dump(exclude_none=True))
    given = {"base_url": kwargs.pop("base_url", None), "timeout": milliseconds(kwargs.pop("timeout", None))}
    http |= {name: value for name, value in given.items() if value is not None}
    made: dict[str, Any] = {"http_options": http} if http else {}
    return made if kwargs.get("vertexai") or kwargs.get("credentials") else {**made, "api_key": _key(row, kwargs)}


def _vertexai(row: Row, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The same client on Google's cloud, where a project is the account."""
    kwargs["vertexai"] = True
    if not kwargs.get("api_key"):
        kwargs["project"] = _found(row, kwargs, "project", "project", ("GOOGLE_CLOUD_PROJECT",))
        kwargs["location"] = kwargs.get("location") or os.environ.get("GOOGLE_CLOUD_LOCATION") or "us-central1"
    return _google(row, kwargs)


_AWS = (
    *("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_account_id"),
    *("api_version", "use_ssl", "verify", "config"),
)


def _bedrock(_row: Row, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What `boto3.client` takes, which its signature does not say."""
    if kwargs.get("api_key"):
        raise ConfigurationError("boto3 takes an API key of Bedrock from AWS_BEARER_TOKEN_BEDROCK only: set that.")
    region = kwargs.pop("region", None) or kwargs.pop("region_name", None) or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = kwargs.pop("base_url", None) or kwargs.pop("endpoint_url", None)
    made: dict[str, Any] = {
        "service_name": "bedrock-runtime",
        "region_name": region or "us-east-1",
        "endpoint_url": endpoint,
    }
    made |= {name: kwargs.pop(name) for name in _AWS if name in kwargs}
    if timeout := kwargs.pop("timeout", None):
        from botocore.config import Config  # noqa: PLC0415  of an SDK

        waits = Config(connect_timeout=timeout, read_timeout=timeout)
        made["config"] = waits.merge(made["config"]) if made.get("config") else waits
    return made


_PREPARE: dict[Provider, Callable[[Row, dict[str, Any]], dict[str, Any]]] = {
    Provider.AZURE_OPENAI: _azure,
    Provider.BEDROCK: _bedrock,
    Provider.DATABRICKS: _databricks,
    Provider.GEMINI: _google,
    Provider.GENAI: _google,
    Provider.VERTEXAI: _vertexai,
    Provider.XAI: _xai,
    Provider.COHERE: _cohere,
    Provider.MISTRAL: _mistral,
    Provider.WRITER: _keyed,
}
