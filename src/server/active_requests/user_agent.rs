//! Names the client program from its `User-Agent`.
//!
//! Uses the program name only, without version and system. Names that users wouldn't recognize are mapped to the
//! program's own name.

/// Longest name.
const MAX_CHARACTERS: usize = 40;

/// Prefixes of `User-Agent` in lower case, and the program's name.
const PROGRAMS: [(&str, &str); 14] = [
    ("claude-cli/", "Claude Code"),
    ("codex_cli", "Codex CLI"),
    ("codex_exec", "Codex CLI"),
    ("codex_vscode", "Codex in VS Code"),
    ("openai/python", "OpenAI for Python"),
    ("asyncopenai/python", "OpenAI for Python"),
    ("openai/js", "OpenAI for JavaScript"),
    ("anthropic/python", "Anthropic for Python"),
    ("asyncanthropic/python", "Anthropic for Python"),
    ("anthropic/js", "Anthropic for JavaScript"),
    ("ollama-python/", "Ollama for Python"),
    ("google-genai-sdk/", "Google Gen AI SDK"),
    ("geminicli", "Gemini CLI"),
    ("mozilla/", "a web page"),
];

/// The program's name; `None` if the header names none.
pub(super) fn of(agent: &str) -> Option<String> {
    let lower = agent.to_ascii_lowercase();
    if let Some((_, name)) = PROGRAMS.iter().find(|(start, _)| lower.starts_with(start)) {
        return Some((*name).to_owned());
    }
    let product = agent.split(['/', ' ', '(', ';', ',']).next().unwrap_or_default();
    let name: String = product.chars().filter(char::is_ascii_graphic).take(MAX_CHARACTERS).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn only_the_program_name_is_used() {
        for (agent, family) in [
            ("claude-cli/2.1.0 (external, cli)", Some("Claude Code")),
            ("codex_cli_rs/0.50.0 (Debian 13; x86_64) xterm", Some("Codex CLI")),
            ("OpenAI/Python 2.8.0", Some("OpenAI for Python")),
            ("AsyncAnthropic/Python 0.75.0", Some("Anthropic for Python")),
            ("google-genai-sdk/3.6.1 gl-python/3.13", Some("Google Gen AI SDK")),
            ("GeminiCLI/0.61.0/gpt-6 (linux; x64)", Some("Gemini CLI")),
            ("Mozilla/5.0 (X11; Linux x86_64)", Some("a web page")),
            ("curl/8.5.0", Some("curl")),
            ("my-tool (secret-host)", Some("my-tool")),
            ("<script>alert(1)</script>", Some("<script>alert")),
            (" ", None),
            ("", None),
        ] {
            assert_eq!(of(agent).as_deref(), family, "{agent}");
        }
        assert_eq!(of(&"x".repeat(500)).map(|name| name.len()), Some(40));
    }
}
