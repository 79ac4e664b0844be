//! Login commands against the simulated issuer: their output and exit codes.

#![expect(clippy::unwrap_used, reason = "a test that can't continue has failed")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use codex_proxy::clock::SystemClock;
use codex_proxy::demo::Demo;

/// A home directory, and an issuer.
struct Home {
    directory: tempfile::TempDir,
    demo: Demo,
}

struct Ended {
    code: i32,
    answer: String,
    talk: String,
}

impl Home {
    async fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), demo: Demo::start(Arc::new(SystemClock)).await.unwrap() }
    }

    /// A command in an environment without a display.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codex-proxy"));
        command.args(arguments).env_clear().env("CODEX_PROXY_HOME", self.directory.path());
        command.env("CODEX_PROXY_AUTH_URL", self.demo.issuer_url());
        command.env("CODEX_PROXY_UPSTREAM_URL", self.demo.backend_url());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        Ended::of(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    }

    /// Enters a code on the issuer's page.
    async fn type_in(&self, code: &str) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let page = client.post(format!("{}/codex/device", self.demo.issuer_url()));
        let form = format!("user_code={code}");
        let reply = page.header("content-type", "application/x-www-form-urlencoded").body(form).send().await.unwrap();
        assert_eq!(reply.status(), 200);
    }

    /// Logs in with a device code; returns the output up to the code, and the final result.
    async fn device_login(&self, arguments: &[&str]) -> (String, Ended) {
        let mut child = self.command(arguments).spawn().unwrap();
        let (said, child) = tokio::task::spawn_blocking(move || (up_to_code(&mut child), child)).await.unwrap();
        self.type_in(said.split_whitespace().last().unwrap()).await;
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        (said, Ended::of(output))
    }
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), answer: text(output.stdout), talk: text(output.stderr) }
    }
}

fn up_to_code(child: &mut Child) -> String {
    let mut said = String::new();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    while !said.contains("DEMO-") {
        assert!(talk.read_line(&mut said).unwrap() > 0, "{said}");
    }
    child.stderr = Some(talk.into_inner());
    said
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_a_display_the_device_code_is_chosen_with_a_notice() {
    let home = Home::new().await;
    let (said, ended) = home.device_login(&["login"]).await;
    assert!(said.contains("No display") && said.contains("login --no-browser"), "{said}");
    assert!(said.contains(&format!("{}/codex/device", home.demo.issuer_url())), "{said}");
    assert_eq!((ended.code, &*ended.answer), (0, ""), "{}", ended.talk);
    assert!(ended.talk.trim_end().ends_with("Start it with `codex-proxy serve`."), "{}", ended.talk);
    let status = home.run(&["status"]).await;
    assert_eq!(status.code, 0);
    assert!(status.answer.contains("demo@codex-proxy.invalid"), "{}", status.answer);
}

#[tokio::test]
async fn a_requested_device_code_needs_no_notice() {
    let home = Home::new().await;
    let (said, ended) = home.device_login(&["login", "--device"]).await;
    assert!(said.starts_with("Open this address on any device"), "{said}");
    assert_eq!(ended.code, 0, "{}", ended.talk);
}

/// A ChatGPT session token that is valid for decades.
fn token(account: &str) -> String {
    let claims = format!(
        r#"{{"exp":4102444800,"email":"{account}@example.com","https://api.openai.com/auth":{{"chatgpt_account_id":"{account}"}}}}"#
    );
    format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
}

/// Runs a command with a terminal as its standard input, and types after it has printed a line.
#[cfg(target_os = "linux")]
fn run_at_terminal(mut command: Command, typed: String) -> (String, Ended) {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use std::io::Write as _;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let keyboard = openpt(flags).unwrap();
    unlockpt(&keyboard).unwrap();
    let mut child = command.stdin(ioctl_tiocgptpeer(&keyboard, flags).unwrap()).spawn().unwrap();
    drop(command);
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let mut prompt = String::new();
    talk.read_line(&mut prompt).unwrap();
    let typist = std::thread::Builder::new().spawn(move || {
        let mut keyboard = std::fs::File::from(keyboard);
        // A terminal accepts a few thousand bytes at a time.
        for piece in typed.as_bytes().chunks(512) {
            keyboard.write_all(piece).unwrap();
        }
        keyboard
    });
    child.stderr = Some(talk.into_inner());
    let ended = Ended::of(child.wait_with_output().unwrap());
    drop(typist.unwrap().join().unwrap());
    (prompt, ended)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_token_that_is_longer_than_a_line_of_the_terminal_is_read_whole() {
    let home = Home::new().await;
    let claims = format!(
        r#"{{"exp":4102444800,"pad":"{}","https://api.openai.com/auth":{{"chatgpt_account_id":"acct-long"}}}}"#,
        "x".repeat(9000)
    );
    let token = format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims));
    assert!(token.len() > 2 * 4095);
    let command = home.command(&["login", "--with-access-token"]);
    let typed = format!("{token}\n");
    let (prompt, ended) = tokio::task::spawn_blocking(move || run_at_terminal(command, typed)).await.unwrap();
    assert!(prompt.contains("Paste the access token"), "{prompt}");
    assert_eq!(ended.code, 0, "{}", ended.talk);
    assert_eq!(home.run(&["token"]).await.answer.trim_end(), token);

    let command = home.command(&["login", "--with-access-token"]);
    let typed = "at-1\u{3}".to_owned();
    let (_, ended) = tokio::task::spawn_blocking(move || run_at_terminal(command, typed)).await.unwrap();
    assert!(ended.code == 1 && ended.talk.contains("canceled"), "{}", ended.talk);
}

/// Another program's login file for an account.
fn lend(home: &Home, account: &str) -> String {
    let token = token(account);
    let path = home.directory.path().join(format!("{account}.json"));
    std::fs::write(&path, format!(r#"{{"auth_mode":"chatgpt","tokens":{{"access_token":"{token}"}}}}"#)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn accounts_are_listed_chosen_and_removed() {
    let home = Home::new().await;
    for account in ["acct-a", "acct-b"] {
        assert_eq!(home.run(&["login", "--import", &lend(&home, account)]).await.code, 0);
    }
    let list = async |more: &[&str]| home.run(&[&["accounts", "list"], more].concat()).await.answer;
    let plain = list(&[]).await;
    assert!(plain.starts_with("  acct-a  acct-a@example.com") && plain.contains("\n* acct-b "), "{plain}");
    assert_eq!(home.run(&["accounts", "use", "acct-c"]).await.code, 3);
    assert_eq!(home.run(&["accounts", "use", "acct-a"]).await.code, 0);
    assert!(list(&[]).await.contains("* acct-a "));
    assert!(list(&["--account", "acct-b"]).await.contains("* acct-b "));
    let json: serde_json::Value = serde_json::from_str(&list(&["--json"]).await).unwrap();
    assert_eq!((&json[0]["account_id"], &json[0]["is_active"]), (&"acct-a".into(), &true.into()));
    let removed = home.run(&["accounts", "remove", "acct-a"]).await;
    assert!(removed.code == 0 && removed.talk.contains("accounts use ID"), "{}", removed.talk);
    let status = home.run(&["status", "--offline"]).await;
    assert!(status.code == 3 && status.answer.contains("accounts use ID"), "{}", status.answer);
    assert_eq!(home.run(&["status", "--offline", "--account", "acct-b"]).await.code, 0);
    assert_eq!(home.run(&["logout", "--account", "acct-b", "--all"]).await.code, 2);
    assert_eq!(home.run(&["logout", "--all"]).await.code, 0);
    assert_eq!(list(&[]).await, "");
}

#[tokio::test]
async fn a_request_uses_the_account_of_its_header_then_of_its_key() {
    let home = Home::new().await;
    home.device_login(&["login", "--device"]).await;
    home.run(&["login", "--import", &lend(&home, "acct-b")]).await;
    let keys = "[[keys]]\nname = 'bound'\nkey = 'k1'\naccount = 'acct-demo'\n[[keys]]\nname = 'lost'\nkey = 'k2'\n\
                account = 'acct-z'\n[[keys]]\nname = 'free'\nkey = 'k3'\n";
    std::fs::write(home.directory.path().join("config.toml"), keys).unwrap();
    let mut process = home.command(&["serve", "--port", "0"]).spawn().unwrap();
    let mut talk = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
    let ready = talk.find(|line| line.contains(" is ready: ")).unwrap();
    std::thread::Builder::new().spawn(move || talk.for_each(drop)).unwrap();
    let base_url = ready.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    let ask = async |key: &str, account: &str| {
        let body = r#"{"model":"gpt-6.2-sol","messages":[{"role":"user","content":"hi"}]}"#;
        let request = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = request.post(format!("{base_url}/chat/completions")).bearer_auth(key).body(body);
        let request = request.header("content-type", "application/json").header("x-proxy-account", account);
        let reply = request.send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    // The borrowed account is the active one, and the simulated backend doesn't know it.
    assert_eq!(ask("k3", "").await.0, 401);
    assert_eq!(ask("k3", "acct-demo").await.0, 200);
    assert_eq!(ask("k1", "").await.0, 200);
    let (status, body) = ask("k1", "acct-b").await;
    assert!(status == 403 && body.contains("account_bound"), "{body}");
    let (status, body) = ask("k2", "").await;
    assert!(status == 401 && body.contains("'lost'") && body.contains("accounts list"), "{body}");
    let (status, body) = ask("k3", "acct-z").await;
    assert!(status == 400 && body.contains("x-proxy-account") && body.contains("unknown_account"), "{body}");
    process.kill().unwrap();
    process.wait().unwrap();
}

#[tokio::test]
async fn a_token_on_standard_input_signs_in_and_status_shows_its_expiry() {
    let home = Home::new().await;
    let login = async |text: &str| {
        let mut command = home.command(&["login", "--with-access-token"]);
        let file = home.directory.path().join("stdin");
        std::fs::write(&file, text).unwrap();
        command.stdin(std::fs::File::open(&file).unwrap());
        Ended::of(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    };
    let good = login(&format!("{}\n", token("acct-a"))).await;
    assert!(good.code == 0 && good.talk.contains("2100-01-01"), "{}", good.talk);
    assert!(!good.talk.contains("e30."), "{}", good.talk);
    let status = home.run(&["status", "--offline"]).await;
    let reported = status.answer.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(reported.contains("until 2100-01-01") && reported.contains("it can't be refreshed"), "{}", status.answer);
    let claims = r#"{"agent_runtime_id":"a","https://api.openai.com/auth":{"chatgpt_account_id":"acct-a"}}"#;
    let agent = format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims));
    for (text, word) in [
        ("", "no token"),
        ("sk-1", "API key"),
        ("rt_1", "refresh token"),
        ("hello", "not an access"),
        (&agent, "agent identity, whose requests must be signed"),
    ] {
        let bad = login(text).await;
        assert!(bad.code == 1 && bad.talk.contains(word), "{}", bad.talk);
    }
}

#[tokio::test]
async fn a_token_of_the_environment_takes_precedence_over_the_store() {
    let home = Home::new().await;
    home.run(&["login", "--import", &lend(&home, "acct-a")]).await;
    let run = async |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = home.command(arguments);
        command.envs(variables.iter().copied());
        Ended::of(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    };
    let (own, other) = (token("acct-own"), token("acct-other"));
    let both = [("CODEX_PROXY_ACCESS_TOKEN", own.as_str()), ("CODEX_ACCESS_TOKEN", other.as_str())];
    let printed = run(&["token"], &both).await;
    assert_eq!((printed.code, printed.answer.trim_end(), &*printed.talk), (0, own.as_str(), ""));
    assert_eq!(run(&["token"], &both[1..]).await.answer.trim_end(), other);
    let status = run(&["status"], &both).await;
    assert!(
        status.answer.contains("CODEX_PROXY_ACCESS_TOKEN") && status.answer.contains("acct-own"),
        "{}",
        status.answer
    );
    let foreign = run(&["token"], &[("CODEX_ACCESS_TOKEN", "what is this")]).await;
    assert!(foreign.code == 0 && foreign.answer.trim_end() == token("acct-a"), "{}", foreign.talk);
    assert!(foreign.talk.contains("CODEX_ACCESS_TOKEN") && foreign.talk.contains("ignored"), "{}", foreign.talk);
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"agent_runtime_id":"a"}"#);
    let agent = run(&["token"], &[("CODEX_ACCESS_TOKEN", &format!("e30.{claims}.c2ln"))]).await;
    assert!(
        agent.code == 0 && agent.talk.contains("agent identity") && agent.talk.contains("ignored"),
        "{}",
        agent.talk
    );
    let unusable = run(&["token"], &[("CODEX_PROXY_ACCESS_TOKEN", "sk-1")]).await;
    assert!(unusable.code == 3 && unusable.talk.contains("API key"), "{}", unusable.talk);
    // A login would have no effect: the variable takes precedence over the store.
    assert!(unusable.talk.contains("unset CODEX_PROXY_ACCESS_TOKEN`") || cfg!(windows), "{}", unusable.talk);
    assert!(!unusable.talk.contains("codex-proxy login"), "{}", unusable.talk);
}

#[tokio::test]
async fn token_prints_an_access_token_and_never_a_refresh_token() {
    let home = Home::new().await;
    let nobody = home.run(&["token"]).await;
    assert_eq!((nobody.code, &*nobody.answer), (3, ""));
    home.device_login(&["login", "--device"]).await;
    let printed = home.run(&["token"]).await;
    assert_eq!((printed.code, printed.answer.lines().count()), (0, 1), "{}", printed.talk);
    assert!(printed.answer.starts_with("ey") && !printed.answer.contains("rt_"), "{}", printed.answer);
}

#[tokio::test]
async fn a_damaged_file_is_reported_with_the_command_that_restores_it() {
    let home = Home::new().await;
    home.run(&["login", "--import", &lend(&home, "acct-a")]).await;
    let path = home.directory.path().join("credentials.json");
    std::fs::write(&path, "{ half").unwrap();
    for command in [&["status"][..], &["token"], &["logout"], &["accounts", "list"]] {
        let ended = home.run(command).await;
        assert_eq!((ended.code, &*ended.answer), (1, ""), "{command:?} {}", ended.talk);
        assert!(
            ended.talk.contains(path.to_str().unwrap()) && ended.talk.contains("accounts restore"),
            "{}",
            ended.talk
        );
    }
    assert_eq!(home.run(&["accounts", "restore"]).await.code, 0);
    assert_eq!(home.run(&["status", "--offline"]).await.code, 0);
    assert_eq!(home.run(&["accounts", "restore"]).await.code, 1);
}

#[tokio::test]
async fn control_characters_from_outside_are_escaped() {
    let home = Home::new().await;
    let claims = r#"{"exp":4102444800,"email":"e\u001b]0;x\u0007@example.com","https://api.openai.com/auth":{"chatgpt_account_id":"acct-e"}}"#;
    let token = format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims));
    let path = home.directory.path().join("theirs.json");
    std::fs::write(&path, format!(r#"{{"auth_mode":"chatgpt","tokens":{{"access_token":"{token}"}}}}"#)).unwrap();
    let imported = home.run(&["login", "--import", path.to_str().unwrap()]).await;
    let listed = home.run(&["accounts", "list"]).await;
    let status = home.run(&["status", "--offline"]).await;
    for text in [imported.talk, imported.answer, listed.answer, status.answer.clone(), status.talk] {
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    }
    assert!(status.answer.contains(r"e\u{1b}]0;x\u{7}@example.com"), "{}", status.answer);
}

#[cfg(target_os = "linux")]
#[test]
fn the_browser_process_gets_no_secrets() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let opener = directory.path().join("xdg-open");
    let seen = directory.path().join("environment");
    std::fs::write(&opener, format!("#!/bin/sh\n/usr/bin/env > {}\n", seen.display())).unwrap();
    std::fs::set_permissions(&opener, std::fs::Permissions::from_mode(0o755)).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_codex-proxy"));
    command.args(["login", "--port", &port]).env_clear().env("CODEX_PROXY_HOME", directory.path());
    command.env("PATH", directory.path()).env("DISPLAY", ":0").env("CODEX_PROXY_API_KEYS", "canary-of-sixteen-letters");
    command.env("CODEX_PROXY_KEY", "canary").env("CODEX_ACCESS_TOKEN", "canary");
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    while !said.contains("Waiting for the browser") {
        assert!(talk.read_line(&mut said).unwrap() > 0, "{said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let environment = std::fs::read_to_string(seen).unwrap();
    assert!(environment.contains("DISPLAY=:0") && !environment.contains("canary"), "{environment}");
}
