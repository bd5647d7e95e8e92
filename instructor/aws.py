"""Whose account a client on AWS asks on, where that is not an API key."""

from __future__ import annotations

from typing import Any


def of_boto(client: Any) -> Any:
    """The account of a client of boto3's; an API key of Bedrock is its own account."""
    signer = client._request_signer  # noqa: SLF001  there is no public way to the credentials of a client
    token = signer._auth_token  # noqa: SLF001
    return named(signer._credentials) if token is None else token.token  # noqa: SLF001


def lacks_account(client: Any) -> bool:
    """Whether a client of boto3's, which looked for credentials when it was made, must sign and cannot."""
    signer, signed = client._request_signer, isinstance(client.meta.config.signature_version, str)  # noqa: SLF001
    return signed and signer._auth_token is None and signer._credentials is None  # noqa: SLF001


def of_anthropic(client: Any) -> Any:
    """The account of a client of Anthropic's: the key that it was given, or what boto3 finds where there is none."""
    if client.api_key or client.aws_access_key:
        return client.aws_access_key
    known = vars(client)
    if "_aws_found" not in known:
        import boto3  # noqa: PLC0415  only such clients need it, and have it

        known["_aws_found"] = boto3.Session(profile_name=client.aws_profile).get_credentials()
    return named(known["_aws_found"])


def of_openai(client: Any) -> Any:
    """The account of a client of OpenAI's: without an API key it has none that can be read, and no name."""
    return None if client.api_key else client


def named(credentials: Any) -> str | None:
    """The AWS account; where that is not known the access key, which is another one once it has been renewed.

    Nothing is fetched for it that is there already: reading a credential that renews itself would wait for that.
    """
    if credentials is None:
        return None
    held = vars(credentials)
    if "_access_key" in held and held["_access_key"] is None:  # one that is fetched when it is needed first
        credentials.get_frozen_credentials()
    account, key = (held.get(f"_{name}") or held.get(name) for name in ("account_id", "access_key"))
    return str(account or key)
