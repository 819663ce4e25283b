"""litellm against a server: `litellm_client.py URL MODEL`."""

import importlib.metadata
import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it fetches a list of prices otherwise

import litellm

litellm.telemetry = False
litellm.suppress_debug_info = True
COMMON = {"model": f"openai/{sys.argv[2]}", "api_base": sys.argv[1] + "/v1", "api_key": "none", "temperature": 0}
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def too_long():
    try:
        litellm.completion(messages=[{"role": "user", "content": "word " * 9000}], **COMMON)
    except litellm.ContextWindowExceededError as found:
        return type(found).__name__
    return None


answer = litellm.completion(messages=QUESTION, **COMMON).choices[0].message
print(
    json.dumps(
        {
            "version": importlib.metadata.version("litellm"),
            "content": answer.content,
            "reasoning": answer.get("reasoning_content"),
            "stream": "".join(
                part.choices[0].delta.content or ""
                for part in litellm.completion(messages=QUESTION, stream=True, **COMMON)
            ),
            "too_long": too_long(),
        }
    )
)
