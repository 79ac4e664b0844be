//! `connect`: printing, writing and removing the settings of clients.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::proxy::Launch;

/// A home directory for clients and the proxy, without a network.
struct Desk {
    launch: Launch,
}

struct CommandOutput {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new() -> Self {
        Self::of(Launch::new())
    }

    fn of(launch: Launch) -> Self {
        let home = launch.home().to_str().unwrap().to_owned();
        Self { launch: launch.variable("HOME", &home) }
    }

    /// Runs `connect`. An argument may contain spaces between several.
    fn connect(&self, arguments: &[&str]) -> CommandOutput {
        let arguments = arguments.iter().flat_map(|argument| argument.split(' '));
        let output = self.launch.command(&["connect"].into_iter().chain(arguments).collect::<Vec<_>>()).run();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        CommandOutput { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.launch.home().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

#[test]
fn all_clients_are_listed_in_80_columns_installed_ones_first() {
    let desk = Desk::new();
    desk.put(".codex/auth.json", "{}");
    desk.put("bin/opencode", "");
    let bin = desk.path("bin");
    let desk = Desk { launch: desk.launch.variable("PATH", bin.to_str().unwrap()) };
    let reported = desk.connect(&[]);
    assert_eq!(reported.code, 0, "{}", reported.stderr);
    assert!(reported.stdout.lines().all(|line| line.chars().count() <= 80), "{}", reported.stdout);
    let clients: Vec<&str> = reported.stdout.lines().filter_map(|line| line.split("  ").next()).skip(1).collect();
    assert_eq!(clients[..2], ["codex", "opencode"], "{}", reported.stdout);
    assert!(clients.iter().filter(|client| !client.is_empty()).count() >= 20, "{}", reported.stdout);
}

#[test]
fn settings_contain_the_configured_address_and_a_model() {
    let desk = Desk::new();
    desk.put("config.toml", "listen = 9797\ndefault_model = 'gpt-6-luna'\n");
    let reported = desk.connect(&["claude-code"]);
    assert_eq!(reported.code, 0, "{}", reported.stderr);
    assert!(reported.stdout.contains(r#""ANTHROPIC_BASE_URL": "http://127.0.0.1:9797""#), "{}", reported.stdout);
    assert!(reported.stdout.contains("gpt-6-luna") && reported.stdout.contains("272000"), "{}", reported.stdout);
    assert!(
        reported.stderr.contains("the daemon isn't running") && reported.stderr.contains("codex-proxy serve"),
        "{}",
        reported.stderr
    );
}

/// Returns the code block in a language that contains a word.
fn block(page: &str, language: &str, word: &str) -> String {
    let mut blocks = page.split("\n```").filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    blocks.find(|block| block.contains(word)).unwrap_or_else(|| panic!("no {language} block with {word}")).to_owned()
}

#[test]
fn the_documented_settings_are_those_that_connect_prints() {
    let page = include_str!("../../docs/clients.md");
    let desk = Desk::new();
    for (client, language, word) in [("codex", "toml", "[model_providers"), ("claude", "sh", "ANTHROPIC_BASE_URL")] {
        let documented = block(page, language, word);
        let printed = desk.connect(&[client]).stdout;
        assert!(printed.contains(&documented), "{client}: {documented}\n{printed}");
    }
}

#[test]
fn documented_context_windows_are_those_of_the_catalog() {
    let catalogue: Value = serde_json::from_str(include_str!("../../src/upstream/catalogue.json")).unwrap();
    let models = catalogue["models"].as_array().unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    let pages = pages.chain(["README.md", "config.example.toml"].map(|name| root.join(name)));
    let text: Vec<String> = pages.map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut found = 0;
    for line in text.iter().flat_map(|page| page.lines()).filter(|line| line.to_lowercase().contains("window")) {
        let digits = line.replace(',', "");
        let numbers = digits.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok());
        for window in numbers.filter(|number| *number >= 100_000) {
            let is_it = |model: &&Value| model["context_window"] == window;
            let named = models.iter().filter(|model| line.contains(&format!("`{}`", model["slug"].as_str().unwrap())));
            assert!(models.iter().any(|model| is_it(&model)), "no model has this window: {line}");
            assert!(named.clone().count() == 0 || named.clone().any(|model| is_it(&model)), "another model: {line}");
            found += 1;
        }
    }
    assert!(found > 1, "the pages name the window of a model");
}

#[test]
fn clients_of_ollama_get_the_address_in_their_format() {
    let desk = Desk::new();
    desk.put("config.toml", "listen = 9797\n[[keys]]\nname = 'home-assistant'\nkey = 'sk-home'\n");
    let reported = desk.connect(&["home-assistant"]);
    let fields = "URL      http://127.0.0.1:9797\nAPI key  sk-home\n";
    assert!(reported.code == 0 && reported.stdout.contains(fields), "{}{}", reported.stdout, reported.stderr);
    let reported = desk.connect(&["raycast"]);
    assert!(
        reported.code == 0 && reported.stdout.contains("Ollama Host  127.0.0.1:9797\n"),
        "{}{}",
        reported.stdout,
        reported.stderr
    );
    assert!(reported.stdout.contains("base_url: \"http://127.0.0.1:9797/v1\""), "{}", reported.stdout);
}

#[test]
fn settings_contain_the_address_of_the_running_daemon() {
    let desk = Desk::of(Launch::demo());
    let running = desk.launch.start();
    let reported = desk.connect(&["openai-python"]);
    assert!(
        reported.stdout.contains(&format!("base_url=\"http://{}/v1\"", running.authority())),
        "{}",
        reported.stdout
    );
    assert!(!reported.stderr.contains("warning"), "{}", reported.stderr);
}

#[test]
fn a_known_key_is_shown_preferring_the_one_named_like_the_client() {
    let desk = Desk::new();
    let hash = "7c9f8cb332edbdb1679a6876df821b38cfee40359a5540148444f31446af1ff4";
    let hidden = format!("[[keys]]\nname = 'zed'\nkey_sha256 = '{hash}'\n");
    desk.put("config.toml", &hidden);
    let reported = desk.connect(&["curl"]);
    assert!(
        reported.stdout.contains("YOUR-CODEX-PROXY-KEY") && reported.stderr.contains("only hashes"),
        "{}",
        reported.stderr
    );
    let refused = desk.connect(&["codex", "--write"]);
    assert_eq!((refused.code, desk.path(".codex/config.toml").exists()), (1, false), "{}", refused.stderr);
    let known = "[[keys]]\nname = 'any'\nkey = 'sk-any'\n[[keys]]\nname = 'aider'\nkey = 'sk-aider'\n";
    desk.put("config.toml", &format!("{hidden}{known}"));
    assert!(desk.connect(&["curl"]).stdout.contains("sk-any"));
    assert!(desk.connect(&["aider"]).stdout.contains("sk-aider"));
    let variable = Desk { launch: desk.launch.variable("CODEX_PROXY_API_KEYS", "sk-env, sk-other") };
    assert!(variable.connect(&["curl"]).stdout.contains("sk-env"));
}

#[test]
fn undo_restores_the_file_byte_for_byte() {
    let files = [
        ("codex", ".codex/config.toml", "# mine\nmodel = \"old\" # why\n\n[mcp_servers.x]\ncommand = \"y\""),
        ("codex --gateway", ".codex/config.toml", "# mine\nmodel = \"old\" # why\n\n[tui]\ntheme = \"y\""),
        ("claude", ".claude/settings.json", "{\"model\": \"opus\", \"env\": {\"A\": \"1\"}}\r\n"),
        ("opencode", ".config/opencode/opencode.jsonc", "{\n  // mine\n  \"theme\": \"x\",\n}\n"),
        ("zed", ".config/zed/settings.json", "// Zed\n{\n  \"vim_mode\": true, // yes\n}\n"),
        ("aider", ".aider.conf.yml", "dark-mode: true  # yes"),
        ("continue", ".continue/config.yaml", "name: Mine\nversion: 2.0.0\nmodels:\n  - name: x\n    model: y\n"),
        ("llm", ".config/io.datasette.llm/extra-openai-models.yaml", "- model_id: x\n  model_name: y\n"),
    ];
    for (client, file, before) in files {
        let desk = Desk::new();
        desk.put(file, before);
        let written = desk.connect(&[client, "--write"]);
        assert_eq!(written.code, 0, "{client}: {}", written.stderr);
        let text = desk.read(file);
        assert!(text.contains("http://127.0.0.1:8787"), "{client}: {text}");
        assert_eq!(desk.connect(&[client, "--write"]).code, 0);
        assert_eq!(desk.read(file), text, "{client}: once is enough");
        let undone = desk.connect(&[client, "--undo"]);
        assert_eq!((undone.code, desk.read(file).as_str()), (0, before), "{client}: {}", undone.stderr);
        assert_eq!(desk.connect(&[client, "--undo"]).code, 1, "{client}: there is nothing left");
    }
}

#[test]
fn a_client_with_its_own_login_gets_the_address_and_a_key_in_another_header() {
    let desk = Desk::new();
    desk.put("config.toml", "listen = 9797\n[upstream]\ncredentials = 'client'\n");
    let written = desk.connect(&["codex", "--gateway", "--write"]);
    assert!(written.code == 0 && !written.stderr.contains("upstream.credentials"), "{}", written.stderr);
    let settings = desk.read(".codex/config.toml");
    assert!(settings.contains("openai_base_url = \"http://127.0.0.1:9797/v1\""), "{settings}");
    assert!(!settings.contains("model_providers"), "the built-in provider keeps its login: {settings}");
    desk.put("config.toml", "[upstream]\ncredentials = 'client'\n[[keys]]\nname = 'codex'\nkey = 'sk-codex'\n");
    let printed = desk.connect(&["codex", "--gateway"]).stdout;
    assert!(printed.contains("\"x-api-key\" = \"sk-codex\""), "{printed}");
    assert!(printed.contains("requires_openai_auth = true") && !printed.contains("openai_base_url"), "{printed}");
}

#[test]
fn connect_warns_if_the_daemon_expects_the_other_login() {
    let desk = Desk::new();
    let reported = desk.connect(&["codex", "--gateway"]);
    assert!(reported.stderr.contains("set upstream.credentials = \"client\""), "{}", reported.stderr);
    desk.put("config.toml", "[upstream]\ncredentials = 'client'\n");
    let reported = desk.connect(&["codex"]);
    assert!(reported.stderr.contains("upstream.credentials is \"client\""), "{}", reported.stderr);
    let other = desk.connect(&["aider", "--gateway"]);
    assert!(other.code == 2 && other.stderr.contains("connect codex --gateway"), "{}", other.stderr);
}

#[test]
fn a_new_address_replaces_the_previous_one() {
    let desk = Desk::new();
    desk.put(".claude/settings.json", "{}");
    assert_eq!(desk.connect(&["claude", "--write"]).code, 0);
    desk.put("config.toml", "listen = 9797\n");
    assert_eq!(desk.connect(&["claude", "--write"]).code, 0);
    let settings: Value = serde_json::from_str(&desk.read(".claude/settings.json")).unwrap();
    assert_eq!(settings["env"]["ANTHROPIC_BASE_URL"], json!("http://127.0.0.1:9797"));
    assert_eq!(desk.connect(&["claude", "--undo"]).code, 0);
    assert_eq!(desk.read(".claude/settings.json"), "{}");
}

#[test]
fn undo_after_an_edit_and_a_second_write_removes_our_settings_and_keeps_the_edit() {
    let files = [
        ("codex", ".codex/config.toml", "model = \"old\"\n", "\n[later]\nx = 1\n", "[later]"),
        ("claude", ".claude/settings.json", "{\n  \"env\": {}\n}\n", "// later\n", "// later"),
        ("aider", ".aider.conf.yml", "dark-mode: true\n", "auto-commits: false\n", "auto-commits: false"),
    ];
    for (client, file, before, edit, kept) in files {
        let desk = Desk::new();
        desk.put(file, before);
        assert_eq!(desk.connect(&[client, "--write"]).code, 0);
        desk.put(file, &(desk.read(file) + edit));
        desk.put("config.toml", "listen = 9797\n");
        let again = desk.connect(&[client, "--write"]);
        assert!(again.code == 0 && desk.read(file).contains("127.0.0.1:9797"), "{client}: {}", again.stderr);
        let undone = desk.connect(&[client, "--undo"]);
        assert_eq!(undone.code, 0, "{client}: {}", undone.stderr);
        assert!(undone.stdout.contains("was restored"), "{client}: {}", undone.stdout);
        let text = desk.read(file);
        assert!(text.contains(kept) && text.contains(before.trim_end_matches(['}', '\n'])), "{client}: {text}");
        assert!(!text.contains("9797") && !text.contains("8787") && !text.contains("codex-proxy"), "{client}: {text}");
        assert_eq!(desk.read(&format!("{file}.before-codex-proxy")), before);
    }
}

#[test]
fn a_file_with_crlf_line_endings_keeps_them() {
    let before = "# mine\r\nmodel = \"old\"\r\n\r\n[profiles.a]\r\nx = 1\r\n";
    let desk = Desk::new();
    desk.put(".codex/config.toml", before);
    assert_eq!(desk.connect(&["codex", "--write"]).code, 0);
    let written = desk.read(".codex/config.toml");
    assert!(written.contains("[model_providers.codex-proxy]\r\n"), "{written:?}");
    assert_eq!(written.matches('\n').count(), written.matches("\r\n").count(), "{written:?}");
    assert_eq!(desk.connect(&["codex", "--undo"]).code, 0);
    assert_eq!(desk.read(".codex/config.toml"), before);
}

#[cfg(unix)]
#[test]
fn a_file_that_gets_a_client_key_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    desk.put("config.toml", "[[keys]]\nname = 'any'\nkey = 'sk-of-this-machine'\n");
    desk.put(".claude/settings.json", "{}");
    let file = desk.path(".claude/settings.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let written = desk.connect(&["claude", "--write"]);
    assert!(written.code == 0 && written.stderr.contains("only you can read it"), "{}", written.stderr);
    assert!(desk.read(".claude/settings.json").contains("sk-of-this-machine"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_key_known_only_to_the_daemon_has_to_be_entered() {
    let launch = Launch::demo();
    let _proxy = launch.clone().variable("CODEX_PROXY_API_KEYS", "sk-of-the-daemon-alone").start();
    let desk = Desk::of(launch);
    let (desk, shown, refused) = tokio::task::spawn_blocking(move || {
        let (shown, refused) = (desk.connect(&["curl"]), desk.connect(&["claude", "--write"]));
        (desk, shown, refused)
    })
    .await
    .unwrap();
    assert!(shown.stdout.contains("YOUR-CODEX-PROXY-KEY"), "{}", shown.stdout);
    assert!(shown.stderr.contains("the running daemon requires a client key"), "{}", shown.stderr);
    assert_eq!((refused.code, desk.path(".claude/settings.json").exists()), (1, false), "{}", refused.stderr);
}

#[tokio::test]
async fn another_daemon_at_the_address_of_a_stale_run_file_is_not_ours() {
    let launch = Launch::demo();
    let _proxy = launch.start();
    let desk = Desk::of(launch);
    let run_file = desk.path("run.json");
    let mut running: Value = serde_json::from_str(&desk.read("run.json")).unwrap();
    running["instance"] = json!("an earlier daemon");
    fs::write(run_file, running.to_string()).unwrap();
    let reported = tokio::task::spawn_blocking(move || desk.connect(&["curl"])).await.unwrap();
    assert!(reported.stderr.contains("the daemon isn't running"), "{}", reported.stderr);
}

#[test]
fn a_file_that_cannot_be_edited_safely_is_unchanged_and_the_text_is_printed() {
    let desk = Desk::new();
    desk.put(".aider.conf.yml", "dark-mode: true\nmodel: sonnet\n");
    let reported = desk.connect(&["aider", "--write"]);
    assert_eq!((reported.code, desk.read(".aider.conf.yml").as_str()), (1, "dark-mode: true\nmodel: sonnet\n"));
    assert!(reported.stderr.contains("model already in line 2"), "{}", reported.stderr);
    assert!(reported.stdout.contains("openai-api-base"), "{}", reported.stdout);
}

#[test]
fn a_clients_variables_locate_its_files() {
    let desk = Desk::new();
    let elsewhere = desk.path("elsewhere");
    let desk = Desk { launch: desk.launch.variable("CODEX_HOME", elsewhere.to_str().unwrap()) };
    assert_eq!(desk.connect(&["codex", "--write"]).code, 0);
    assert!(desk.path("elsewhere/config.toml").exists() && !desk.path(".codex").exists());
}

#[test]
fn wrong_usage_is_reported_with_a_suggestion() {
    let desk = Desk::new();
    let unknown = desk.connect(&["cloude"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("Did you mean 'claude'"), "{}", unknown.stderr);
    assert_eq!(desk.connect(&["cline", "--write"]).code, 2);
    assert_eq!(desk.connect(&["codex", "--write", "--undo"]).code, 2);
    assert_eq!(desk.connect(&["--write"]).code, 2);
}
