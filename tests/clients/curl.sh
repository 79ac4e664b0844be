#!/usr/bin/env bash
# curl against the demo: typical first requests, and requests that web pages must not be able to make.
# Usage: curl.sh BASE_URL
set -uo pipefail
base="$1"
root="${base%/v1}"
failures=0

if ! command -v curl >/dev/null; then
    echo 'skipped curl: it is not installed'
    exit 0
fi

# check NAME WANTED_STATUS WANTED_PATTERN CURL_ARGUMENT…: the pattern is looked for in headers and body.
check() {
    local name="$1" status="$2" pattern="$3" answer got
    shift 3
    answer="$(curl --silent --show-error --no-buffer --max-time 30 --include "$@" 2>&1)"
    got="$(printf '%s' "$answer" | sed -nE '1s/^HTTP[^ ]* ([0-9]+).*/\1/p')"
    if [[ "$got" == "$status" ]] && grep -Eqi -- "$pattern" <<<"$answer"; then
        echo "ok curl $name"
    else
        echo "FAILED curl $name: wanted $status and /$pattern/, got: $(head -c 600 <<<"$answer")"
        failures=$((failures + 1))
    fi
}

json=(-H 'content-type: application/json')
model="$(curl --silent --max-time 30 "$base/models" | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])')"
hello="{\"model\":\"$model\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}"
streamed="{\"model\":\"$model\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}"

check 'health' 200 'demo' "$root/health"
check 'ready' 200 '' "$root/ready"
check 'models' 200 '"object": ?"list"' "$base/models"
check 'one model' 200 "\"id\": ?\"$model\"" "$base/models/$model"
check 'chat' 200 'no model wrote this' "${json[@]}" -d "$hello" "$base/chat/completions"
check 'chat without /v1' 200 'no model wrote this' "${json[@]}" -d "$hello" "$root/chat/completions"
check 'chat says that it is a demo' 200 '^x-proxy-demo: true' "${json[@]}" -d "$hello" "$base/chat/completions"
check 'chat carries a request id' 200 '^x-request-id: .' "${json[@]}" -d "$hello" "$base/chat/completions"
check 'chat stream' 200 '^content-type: text/event-stream' "${json[@]}" -d "$streamed" "$base/chat/completions"
check 'chat stream ends whole' 200 '^data: \[DONE\]' "${json[@]}" -d "$streamed" "$base/chat/completions"
check 'any key' 200 'no model wrote this' "${json[@]}" -H 'authorization: Bearer anything' -d "$hello" "$base/chat/completions"
check 'text/plain is refused' 415 'content-type' -H 'content-type: text/plain' -d "$hello" "$base/chat/completions"
check 'a form is refused' 415 'content-type' -d "$hello" "$base/chat/completions"
check 'a foreign origin is refused' 403 '"error"' "${json[@]}" -H 'origin: https://evil.invalid' -d "$hello" "$base/chat/completions"
check 'a foreign host is refused' 403 '"error"' "${json[@]}" -H 'host: evil.invalid' -d "$hello" "$base/chat/completions"
check 'malformed JSON' 400 '"invalid_request_error"' "${json[@]}" -d '{"model":' "$base/chat/completions"
check 'missing messages' 400 '"param": ?"messages"' "${json[@]}" -d "{\"model\":\"$model\"}" "$base/chat/completions"
check 'an image' 200 '"b64_json":"iVBORw' "${json[@]}" -d '{"prompt":"A red fox"}' "$base/images/generations"
check 'an edit' 200 '"b64_json":"iVBORw' -F 'image=@-;filename=a.png;type=image/png' -F 'prompt=Bluer' "$base/images/edits" <<<'dot'
check 'a transcription' 200 '"text":' -F 'file=@-;filename=a.wav' -F 'model=whisper-1' "$base/audio/transcriptions" <<<'RIFF'
check 'a transcription as text' 200 '^content-type: text/plain' -F 'file=@-;filename=a.wav' -F 'response_format=text' "$base/audio/transcriptions" <<<'RIFF'
check 'a foreign upload is refused' 403 '"error"' -H 'origin: null' -F 'file=@-;filename=a.wav' "$base/audio/transcriptions" <<<'RIFF'
check 'unknown path' 404 '"error"' "$base/nothing/here"
check 'wrong method' 405 '^allow: ' "$base/chat/completions"

[[ "$failures" == 0 ]]
