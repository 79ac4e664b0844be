#!/usr/bin/env bash
# Starts the demo, runs each client against it, stops it. Usage: check.sh BINARY TOOLS_DIRECTORY
# A client prints `ok …` or `FAILED …` for each check; the last line is the total.
# Needs no terminal and only the loopback network.
set -euo pipefail
clients="$(cd "$(dirname "$0")" && pwd)"
binary="$1"
tools="$2"

work="$(mktemp -d)"
daemon=''
clean_up() {
    if [[ -n "$daemon" ]]; then kill "$daemon" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap clean_up EXIT

export CODEX_PROXY_HOME="$work/home"
export NO_PROXY='127.0.0.1,localhost,::1'
export no_proxy="$NO_PROXY"
unset OPENAI_API_KEY OPENAI_BASE_URL OPENAI_API_BASE ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL OLLAMA_HOST OLLAMA_API_KEY \
    GEMINI_API_KEY GOOGLE_API_KEY GOOGLE_GEMINI_BASE_URL GOOGLE_GENAI_USE_VERTEXAI
mkdir -p "$CODEX_PROXY_HOME"

"$binary" serve --demo --port 0 2>"$work/daemon.log" &
daemon=$!
base_url=''
for _ in $(seq 100); do
    base_url="$(grep -Eom1 'http://[^[:space:]]+/v1' "$work/daemon.log" || true)"
    if [[ -n "$base_url" ]]; then break; fi
    if ! kill -0 "$daemon" 2>/dev/null; then break; fi
    sleep 0.1
done
if [[ -z "$base_url" ]]; then
    echo 'FAILED daemon: no ready line with a base URL within 10 s; it said:'
    cat "$work/daemon.log"
    echo '0 passed, 1 failed'
    exit 1
fi
echo "demo at $base_url"

results="$work/results"
limit=()
if command -v timeout >/dev/null; then limit=(timeout 240); fi
run_client() {
    local name="$1" before after
    shift
    before="$(grep -c '^FAILED ' "$results" || true)"
    if "${limit[@]}" "$@" "$base_url" 2>"$work/errors" | tee -a "$results"; then return; fi
    after="$(grep -c '^FAILED ' "$results" || true)"
    # A client that exits without output has failed, too.
    if [[ "$before" == "$after" ]]; then echo "FAILED $name: it ended early" | tee -a "$results"; fi
    cat "$work/errors"
}

: >"$results"
export PYTHONPATH="$tools/python" PYTHONPYCACHEPREFIX="$tools/pycache"
export CLIENT_MODULES="$tools/node" CLIENT_PROGRAMS="$tools/agents" CLIENT_AIDER="$tools/aider" PROXY_BINARY="$binary"
for script in openai_chat openai_async openai_legacy openai_media openai_files openai_responses openai_background openai_socket surface lite_tools openai_agents \
    langchain_chat litellm_chat codex_cli codex_tools claude_code gemini_cli anthropic_messages ollama_api google_genai connect; do
    run_client "python $script" python3 "$clients/python/$script.py"
done
for script in openai_chat openai_media openai_files openai_responses openai_background ai_sdk anthropic_messages google_genai ollama_api; do
    run_client "node $script" node "$clients/node/$script.mjs"
done
run_client 'curl' "$clients/curl.sh"

kill -TERM "$daemon"
status=0
wait "$daemon" || status=$?
daemon=''
if [[ "$status" == 0 ]]; then
    echo 'ok daemon stops on SIGTERM' | tee -a "$results"
else
    echo "FAILED daemon stops on SIGTERM: exit code $status" | tee -a "$results"
fi

passed="$(grep -c '^ok ' "$results" || true)"
failed="$(grep -c '^FAILED ' "$results" || true)"
if [[ "$failed" != 0 ]]; then
    echo 'the daemon said:'
    cat "$work/daemon.log"
fi
echo "$passed passed, $failed failed"
[[ "$failed" == 0 ]]
