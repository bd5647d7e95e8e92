"""Corners that a hostile reading found: accounts kept in odd places, receipts of subclasses, loops that are gone."""

import anthropic
import openai
import pytest
from fake_provider import fake_provider
from flavours import openai_client
from pydantic import BaseModel

import instructor
from instructor.cache import AutoCache
from instructor.providers import Provider

Q = {"messages": [{"role": "user", "content": "q"}], "model": "m"}


class User(BaseModel):
    name: str
    age: int


def azure(token):
    """An Azure client that is known by its token."""
    return openai.AzureOpenAI(azure_endpoint="http://127.0.0.1:1", api_version="v", azure_ad_token=token)


def bedrock(**kwargs):
    """An Anthropic client for Bedrock."""
    return anthropic.AnthropicBedrock(aws_region="r", **kwargs)


MAKE = {
    "bedrock api_key": lambda t: instructor.from_anthropic(bedrock(api_key=t)).endpoint,
    "patch(Azure)": lambda t: instructor.patch(azure(t)).chat.completions.create.endpoint,
    "patch(create=Azure's)": lambda t: instructor.patch(create=azure(t).chat.completions.create).endpoint,
    "Instructor(Azure)": lambda t: instructor.Instructor(azure(t), azure(t).chat.completions.create).endpoint,
    "from_databricks(Azure)": lambda t: instructor.from_databricks(azure(t)).endpoint,
    "patch(create=Bedrock's)": lambda t: (
        instructor.patch(
            create=bedrock(aws_access_key=t, aws_secret_key="s").messages.create, provider=Provider.ANTHROPIC
        ).endpoint
    ),
}


@pytest.mark.parametrize("name", MAKE)
def test_accounts_differ(name):
    """Two credentials are two accounts, wherever a client keeps them and however it comes to us."""
    assert MAKE[name]("one").scope(None) != MAKE[name]("two").scope(None)


def test_beta_takes_bedrock_clients():
    """The beta endpoint is for every client of the SDK."""
    instructor.from_anthropic(bedrock(aws_access_key="a", aws_secret_key="s"), beta=True)


def test_headers_changed_in_place_of_a_client_that_lacks_an_attribute():
    """What is changed in place is noticed on the slow path too."""
    headers = {"X-Tenant": "one"}
    create = bedrock(aws_access_key="a", aws_secret_key="s", default_headers=headers).messages.create
    endpoint = instructor.patch(create=create, provider=Provider.ANTHROPIC).endpoint
    before = endpoint.scope(None)
    headers["X-Tenant"] = "two"
    assert endpoint.scope(None) != before


class Base(BaseModel):
    name: str


class Open(Base, extra="allow", validate_assignment=True):
    pass


class Closed(Base, extra="forbid", revalidate_instances="always"):
    pass


@pytest.mark.parametrize("kind", [Open, Closed])
def test_receipts_that_a_base_class_brought(kind):
    """A subclass that would take receipts for data carries none, whatever its base does."""
    with fake_provider() as fake:
        client = openai_client(fake)
        fake.say('{"name": "x"}')
        client.create(Base, **Q)
        result = client.create(kind, **Q)
    result.name = "y"
    assert result.model_dump() == {"name": "y"}
    kind.model_validate(result)


def test_a_list_is_not_made_of_an_answer_that_holds_none():
    """An answer without the list is wrong: it is asked for again, and never read as an empty list."""
    with fake_provider() as provider:
        provider.say('{"name": "John", "age": 25}', '{"tasks": [{"name": "John", "age": 25}]}')
        client = openai_client(provider, cache=AutoCache())

        assert client.create(response_model=list[User], **Q) == [User(name="John", age=25)]
        assert provider.calls == 2


@pytest.mark.parametrize("bad", ["text", {"role": "user", "content": "q"}], ids=["text", "one message"])
def test_messages_that_are_no_list_cost_nothing(bad):
    """A clear error, before anything is asked."""
    with fake_provider() as provider:
        with pytest.raises(TypeError, match="messages must be a list"):
            openai_client(provider).create(response_model=User, messages=bad)

        assert provider.calls == 0
