"""The openai package against a server with --embedding: `openai_embeddings.py URL MODEL`."""

import json
import sys

from openai import OpenAI

client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
texts = ["What is the capital of France?", "What is the capital of Japan?", "Count to fifty."]
found = client.embeddings.create(model=sys.argv[2], input=texts)
as_floats = client.embeddings.create(model=sys.argv[2], input=texts[0], encoding_format="float").data[0].embedding
vectors = [item.embedding for item in found.data]
print(
    json.dumps(
        {
            "sizes": [len(vector) for vector in vectors],
            "norms": [sum(number * number for number in vector) for vector in vectors],
            "near": sum(one * other for one, other in zip(vectors[0], vectors[1], strict=True)),
            "far": sum(one * other for one, other in zip(vectors[0], vectors[2], strict=True)),
            "same": max(abs(one - other) for one, other in zip(vectors[0], as_floats, strict=True)),
            "tokens": found.usage.prompt_tokens,
        }
    )
)
