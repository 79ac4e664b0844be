//! The program at its user's door: what is printed where, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory for all our files, with a config file in it.
struct Home(tempfile::TempDir);

impl Home {
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.toml"), config).unwrap();
        Self(directory)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codex-proxy"));
        command.args(arguments).env_clear().env("CODEX_PROXY_HOME", self.0.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("config.toml")
    }
}

#[derive(Debug)]
struct Ended {
    code: i32,
    answer: String,
    talk: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), answer: text(output.stdout), talk: text(output.stderr) }
    }
}

#[test]
fn help_says_what_it_is_and_what_it_is_not() {
    let ended = Home::new("").run(&["--help"]);
    assert_eq!(ended.code, 0);
    let help = ended.answer.replace('\n', " ");
    for part in ["Your own ChatGPT subscription", "not a documented public API", "not for sharing or pooling"] {
        assert!(help.contains(part), "{part}\n{}", ended.answer);
    }
}

#[test]
fn wrong_use_ends_with_2_and_talks_on_standard_error() {
    let home = Home::new("");
    for arguments in
        [&[][..], &["sevre"], &["config"], &["config", "show", "--colour"], &["-v", "-q", "config", "show"]]
    {
        let ended = home.run(arguments);
        assert_eq!((ended.code, &*ended.answer), (2, ""), "{arguments:?}");
        assert!(!ended.talk.is_empty(), "{arguments:?}");
    }
}

#[test]
fn path_answers_with_the_file_in_force() {
    let home = Home::new("");
    assert_eq!(home.run(&["config", "path"]).answer.trim_end(), home.file().to_str().unwrap());
    let other = home.0.path().join("other.toml");
    let ended = home.run(&["--config", other.to_str().unwrap(), "config", "path"]);
    assert_eq!((ended.code, ended.answer.trim_end()), (0, other.to_str().unwrap()));
    assert!(ended.talk.contains("does not exist"));
    let broken = Home::new("nonsense");
    assert_eq!(broken.run(&["config", "path"]).code, 0);
}

#[cfg(unix)]
#[test]
fn without_a_directory_of_our_own_the_platform_names_one() {
    let home = Home::new("");
    let mut command = home.command(&["config", "path"]);
    let ended = Ended::from(command.env_remove("CODEX_PROXY_HOME").env("HOME", home.0.path()).output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.talk);
    let path = Path::new(ended.answer.trim_end());
    assert!(path.starts_with(home.0.path()) && path.ends_with("codex-proxy/config.toml"), "{}", path.display());
}

#[test]
fn show_names_the_source_of_what_is_not_the_default() {
    let home = Home::new("[timing]\ndrain = '1s'\nkeepalive = '1s'");
    let output = home.command(&["-v", "config", "show"]).env("CODEX_PROXY_TIMING_KEEPALIVE", "2s").output().unwrap();
    let ended = Ended::from(output);
    let line = |key: &str| ended.answer.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert_eq!(line("timing.commit_after"), "timing.commit_after = \"5s\"");
    assert!(line("timing.drain").ends_with(&format!("# {}:2", home.file().display())));
    assert!(line("timing.keepalive").starts_with("timing.keepalive = \"2s\" "));
    assert!(line("timing.keepalive").ends_with("# environment variable CODEX_PROXY_TIMING_KEEPALIVE"));
    assert!(line("log.level").ends_with("# -v"));
}

#[test]
fn show_hides_keys_and_passwords() {
    let config = "[[keys]]\nname = 'laptop'\nkey = 'private'\n[upstream]\nproxy = 'http://me:private@127.0.0.1:1'";
    let ended = Home::new(config).run(&["-vv", "config", "show"]);
    assert!(ended.answer.contains("laptop") && ended.answer.contains("127.0.0.1:1"), "{}", ended.answer);
    assert!(!ended.answer.contains("private") && !ended.talk.contains("private"), "{ended:?}");
}

#[test]
fn check_tells_every_fault_with_its_source_and_a_suggestion() {
    let home = Home::new("lisen = 1\n[limits]\nbody = 'big'\n");
    let output = home.command(&["config", "check"]).env("CODEX_PROXY_LOG_LEVEL", "loud").output().unwrap();
    let ended = Ended::from(output);
    assert_eq!((ended.code, &*ended.answer), (2, ""));
    for part in [
        &*format!("{}:1: lisen: unknown key; did you mean 'listen'?", home.file().display()),
        &format!("{}:3: limits.body: ", home.file().display()),
        "environment variable CODEX_PROXY_LOG_LEVEL: log.level: ",
    ] {
        assert!(ended.talk.contains(part), "{part}\n{}", ended.talk);
    }
}

#[test]
fn check_is_content_with_good_settings_and_repeats_warnings() {
    let ended = Home::new("").run(&["config", "check"]);
    assert_eq!((ended.code, &*ended.talk), (0, ""));
    let ended = Home::new("[upstream]\nurl = 'https://relay.example'\ntrust_host = true").run(&["config", "check"]);
    assert_eq!(ended.code, 0);
    assert!(ended.talk.contains("relay.example"), "{}", ended.talk);
}

#[test]
fn another_machine_is_not_let_in_without_a_key() {
    let home = Home::new("listen = '0.0.0.0:8787'");
    let ended = home.run(&["config", "check"]);
    assert_eq!(ended.code, 2);
    assert!(ended.talk.contains("[[keys]]") && ended.talk.contains("localhost"), "{}", ended.talk);
    let output = home.command(&["config", "check"]).env("CODEX_PROXY_API_KEYS", "k").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let home = Home::new("");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = home.command(&["config", "show"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}
