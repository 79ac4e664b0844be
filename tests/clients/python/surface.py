"""Compares docs/surface.md with the endpoints and parameters of the official SDKs. Usage: surface.py BASE_URL"""

import importlib
import pathlib
import re

import anthropic
import google.genai
import ollama
import openai

from harness import run

PAGE = (pathlib.Path(__file__).parents[3] / "docs" / "surface.md").read_text()

# The types of the parameters of each served endpoint.
PARAMETERS = {
    "POST /v1/chat/completions": ["openai.types.chat.completion_create_params.CompletionCreateParamsBase"],
    "POST /v1/responses": ["openai.types.responses.response_create_params.ResponseCreateParamsBase"],
    "POST /v1/responses/compact": ["openai.types.responses.response_compact_params.ResponseCompactParams"],
    "POST /v1/responses/input_tokens": ["openai.types.responses.input_token_count_params.InputTokenCountParams"],
    "GET /v1/responses/{response_id}": ["openai.types.responses.response_retrieve_params.ResponseRetrieveParamsBase"],
    "GET /v1/responses/{response_id}/input_items": ["openai.types.responses.input_item_list_params.InputItemListParams"],
    "POST /v1/conversations": ["openai.types.conversations.conversation_create_params.ConversationCreateParams"],
    "POST /v1/conversations/{conversation_id}": [
        "openai.types.conversations.conversation_update_params.ConversationUpdateParams"
    ],
    "POST /v1/conversations/{conversation_id}/items": ["openai.types.conversations.item_create_params.ItemCreateParams"],
    "GET /v1/conversations/{conversation_id}/items": ["openai.types.conversations.item_list_params.ItemListParams"],
    "POST /v1/files": ["openai.types.file_create_params.FileCreateParams"],
    "GET /v1/files": ["openai.types.file_list_params.FileListParams"],
    "POST /v1/batches": ["openai.types.batch_create_params.BatchCreateParams"],
    "GET /v1/batches": ["openai.types.batch_list_params.BatchListParams"],
    "POST /v1/completions": ["openai.types.completion_create_params.CompletionCreateParamsBase"],
    "POST /v1/images/generations": ["openai.types.image_generate_params.ImageGenerateParamsBase"],
    "POST /v1/images/edits": ["openai.types.image_edit_params.ImageEditParamsBase"],
    "POST /v1/audio/transcriptions": ["openai.types.audio.transcription_create_params.TranscriptionCreateParamsBase"],
    "POST /v1/messages": [
        "anthropic.types.message_create_params.MessageCreateParamsBase",
        "anthropic.types.beta.message_create_params.MessageCreateParamsBase",
    ],
    "POST /v1/messages/count_tokens": [
        "anthropic.types.message_count_tokens_params.MessageCountTokensParams",
        "anthropic.types.beta.message_count_tokens_params.MessageCountTokensParams",
    ],
    "GET /v1/models": ["anthropic.types.model_list_params.ModelListParams"],
    "POST /api/chat": ["ollama._types.ChatRequest"],
    "POST /api/generate": ["ollama._types.GenerateRequest"],
    "POST /v1beta/models/{model}:generateContent": [
        "google.genai.types.GenerateContentConfig",
        "google.genai.types.GenerationConfig",
    ],
    "POST /v1beta/models/{model}:countTokens": ["google.genai.types.CountTokensConfig"],
    "GET /v1beta/models": ["google.genai.types.ListModelsConfig"],
}
# Members of these types that the SDKs don't send to such an endpoint.
OPTIONS = {
    "automaticContinuation",
    "automaticFunctionCalling",
    "continuationToken",
    "filter",
    "generationOutputConfig",
    "httpOptions",
    "modelArmorConfig",
    "queryBase",
    "shouldReturnHttpResponse",
}

# First segments of paths that only Vertex AI has.
OF_VERTEX = {"batchPredictionJobs", "projects", "tuningJobs"}


def members(path):
    """The members of a typed dictionary or of a model."""
    module, name = path.rsplit(".", 1)
    kind = getattr(importlib.import_module(module), name)
    if hasattr(kind, "model_fields"):
        return {field.alias or name for name, field in kind.model_fields.items()}
    bases = [base for base in getattr(kind, "__orig_bases__", ()) if hasattr(base, "__annotations__")]
    return set(kind.__annotations__).union(*(base.__annotations__ for base in bases))


def sections():
    """The parameters on the page, by endpoint. A member of an object stands for the object, too."""
    found, current = {}, []
    for line in PAGE.splitlines():
        if line.startswith("### "):
            current = re.findall("`([^`]+)`", line)
        elif line.startswith("| `") and line.count(" | ") == 2:
            names = {part for name in re.findall("`([^`]+)`", line.split(" | ")[0]) for part in name.split(".")}
            for endpoint in current:
                found.setdefault(endpoint, set()).update(names)
    return found


def every_parameter_of_the_sdks_is_on_the_page():
    listed = sections()
    missing = []
    for endpoint, types in PARAMETERS.items():
        names = set().union(*(members(path) for path in types)) - OPTIONS
        assert names, endpoint
        missing += [f"{endpoint} {name}" for name in sorted(names - listed[endpoint])]
    assert not missing, missing


def endpoints_of(sdk, prefix):
    """The method and the path of each request in the sources of an SDK."""
    call = re.compile(r'self\._(get|post|put|patch|delete)\w*\(\s*(?:path_template\(\s*)?f?"(/[^"?]*)')
    for source in (pathlib.Path(sdk.__file__).parent / "resources").rglob("*.py"):
        for method, path in call.findall(source.read_text()):
            yield method.upper(), prefix + re.sub(r"\{[^}]*\}", "{}", path)


def endpoints_of_google():
    """The same for the Google Gen AI SDK, whose calls name the method elsewhere. Paths that a parameter begins are below
    those of their collections."""
    folder = pathlib.Path(google.genai.__file__).parent
    for source in [*folder.glob("[a-z]*.py"), *(folder / "_gaos").rglob("*.py")]:
        for path in re.findall(r"\bpath ?= ?f?['\"]([^'\"?]+)", source.read_text()):
            path = path.lstrip("/").replace("{{api_version}}", "v1beta").replace("{api_version}", "v1beta")
            path = path.replace("{model}:", "v1beta/models/{model}:")
            if path.startswith("{") or path.split("/")[0] in OF_VERTEX or path.endswith(":computeTokens"):
                continue
            path = path if path.startswith(("v1beta/", "upload/")) else f"v1beta/{path}"
            yield "POST", "/" + re.sub(r"\{[^}]*\}", "{}", path)


def every_endpoint_of_the_sdks_is_on_the_page():
    exact, folders = set(), set()
    for line in PAGE.splitlines():
        if not (line.startswith("| `") and line.count(" | ") == 1):
            continue
        for name in re.findall("`([^`]+)`", line.split(" | ")[0]):
            *methods, path = re.sub(r"\{[^}]*\}", "{}", name).replace(",", "").split(" ")
            if path.endswith("/…"):
                folders.add(path.removesuffix("/…"))
            exact.update((method, path) for method in methods or ["GET", "POST", "PUT", "PATCH", "DELETE"])
    requests = {*endpoints_of(openai, "/v1"), *endpoints_of(anthropic, "")}
    client = (pathlib.Path(ollama.__file__).parent / "_client.py").read_text()
    requests |= {(method, path) for method, path in re.findall(r"'(GET|POST|DELETE)',\s*'(/api/[a-z]+)'", client)}
    requests |= set(endpoints_of_google())
    assert len(requests) > 300, len(requests)
    is_below = lambda path: any(path == folder or path.startswith(folder + "/") for folder in folders)
    missing = sorted(f"{method} {path}" for method, path in requests if (method, path) not in exact and not is_below(path))
    assert not missing, missing


run("python surface", [every_parameter_of_the_sdks_is_on_the_page, every_endpoint_of_the_sdks_is_on_the_page])
