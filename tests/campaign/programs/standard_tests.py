"""LangChain's standard tests of a chat model, for its clients of OpenAI and Anthropic. Run in the campaign's own environment."""

import os
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

GATEWAY, KEY, MODEL = (os.environ[name] for name in ("GATEWAY", "KEY", "MODEL"))
# What each client is told of its model.
OPENAI = {"model": MODEL, "base_url": f"{GATEWAY}/v1", "api_key": KEY, "max_retries": 0, "stream_usage": True}
ANTHROPIC = {"model": MODEL, "base_url": GATEWAY, "api_key": KEY, "max_retries": 0, "max_tokens": 1000}


class Standard(ChatModelIntegrationTests):
    @property
    def model_override_value(self) -> str:
        return MODEL


if os.environ["PROTOCOL"] == "messages":

    class TestMessages(Standard):
        @property
        def chat_model_class(self) -> type[BaseChatModel]:
            return ChatAnthropic

        @property
        def chat_model_params(self) -> dict[str, Any]:
            return ANTHROPIC

else:

    class TestOpenAI(Standard):
        @property
        def chat_model_class(self) -> type[BaseChatModel]:
            return ChatOpenAI

        @property
        def chat_model_params(self) -> dict[str, Any]:
            return OPENAI | {"use_responses_api": os.environ["PROTOCOL"] == "responses"}
