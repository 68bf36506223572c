"""Calls a running server with the clients that people have. Reads the work from stdin, prints what came back.

usage: check.py BASE_URL
"""

import json
import sys

import cohere
import openai
from cohere.core.api_error import ApiError


def refusal(call):
    """The status of the error that `call` raises and what the client makes of it."""
    try:
        call()
    except openai.APIStatusError as error:
        return {"kind": type(error).__name__, "status": error.status_code, "message": error.message}
    except ApiError as error:
        return {"kind": type(error).__name__, "status": error.status_code, "message": str(error)}
    return None


def main():
    base = sys.argv[1]
    work = json.load(sys.stdin)
    texts, query, documents = work["texts"], work["query"], work["documents"]
    embedder, reranker = work["embedder"], work["reranker"]

    client = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)
    create = client.embeddings.create
    # Asked for no format, the client asks for base64 and decodes it.
    usual = create(model=embedder, input=texts)
    floats = create(model=embedder, input=texts, encoding_format="float", dimensions=len(usual.data[0].embedding))
    one = create(model=embedder, input=query, extra_body={"input_type": "query"})

    chat = client.chat.completions.create
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": work["question"]}]
    whole = chat(model="bowerbird", messages=turns, temperature=0, max_tokens=200, seed=1, user="somebody")
    turns += [{"role": "assistant", "content": whole.choices[0].message.content}]
    turns += [{"role": "user", "content": work["follow_up"]}]
    chunks = list(chat(model="bowerbird", messages=turns, stream=True, stream_options={"include_usage": True}))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    refused = chat(model="bowerbird", messages=[{"role": "user", "content": work["unanswerable"]}])

    first = cohere.Client(api_key="none", base_url=base)
    second = cohere.ClientV2(api_key="none", base_url=base)
    v1 = first.rerank(model=reranker, query=query, documents=[{"text": d} for d in documents], return_documents=True)
    v2 = second.rerank(model=reranker, query=query, documents=documents, top_n=3, max_tokens_per_doc=4096)

    json.dump(
        {
            "usual": [item.embedding for item in usual.data],
            "floats": [item.embedding for item in floats.data],
            "query": one.data[0].embedding,
            "model": usual.model,
            "prompt_tokens": usual.usage.prompt_tokens,
            "truncated": usual.truncated,
            "chat": {
                "content": whole.choices[0].message.content,
                "finish_reason": whole.choices[0].finish_reason,
                "annotations": [note.url_citation.model_dump() for note in whole.choices[0].message.annotations],
                "usage": whole.usage.model_dump(),
                "search_results": whole.search_results,
            },
            "stream": {
                "content": "".join(choice.delta.content or "" for choice in choices),
                "finish_reasons": [choice.finish_reason for choice in choices if choice.finish_reason],
                "search_query": chunks[0].search_query,
                "usage": chunks[-1].usage.model_dump(),
            },
            "refused": {
                "finish_reason": refused.choices[0].finish_reason,
                "content": refused.choices[0].message.content,
                "bowerbird": refused.bowerbird,
            },
            "v1": [[r.index, r.relevance_score, r.document.text] for r in v1.results],
            "v2": [[r.index, r.relevance_score] for r in v2.results],
            "v2_meta": {
                "version": v2.meta.api_version.version,
                "search_units": v2.meta.billed_units.search_units,
                "warnings": v2.meta.warnings,
            },
            "refusals": {
                "unknown_model": refusal(lambda: create(model="text-embedding-3-small", input="a")),
                "chat_model": refusal(lambda: chat(model="gpt-4o", messages=turns)),
                "chat_last": refusal(lambda: chat(model="bowerbird", messages=turns[:-1])),
                "empty": refusal(lambda: create(model=embedder, input=["a", ""])),
                "tokens": refusal(lambda: create(model=embedder, input=[[1, 2, 3]])),
                "no_documents": refusal(lambda: second.rerank(model=reranker, query="q", documents=[])),
                "unknown_reranker": refusal(lambda: second.rerank(model="rerank-v3.5", query="q", documents=["a"])),
            },
        },
        sys.stdout,
    )


main()
